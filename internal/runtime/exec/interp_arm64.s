#include "textflag.h"

// See interp_amd64.s. R20 is the header, R19 the op.
TEXT ·interpreter(SB), NOSPLIT|NOFRAME, $0-0
	CBNZ R20, begin
	MOVD $0x401000, R20        // dataBase: started by the kernel
begin:
	MOVD 0(R20), R19
loop:
	MOVD 0(R19), R8
	MOVD 8(R19), R0
	MOVD (R0), R0
	MOVD 16(R19), R1
	MOVD (R1), R1
	MOVD 24(R19), R2
	MOVD (R2), R2
	MOVD 32(R19), R3
	MOVD (R3), R3
	MOVD 40(R19), R4
	MOVD (R4), R4
	MOVD 48(R19), R5
	MOVD (R5), R5
	CMN  $1, R8
	BEQ  check
	CMN  $2, R8
	BEQ  store
	SVC
	CMN  $4095, R0
	BHS  failed
done:
	MOVD 56(R19), R9
	MOVD R0, (R9)
	MOVD 64(R19), R19
	B    loop
check:                             // *arg0 & arg1 == arg2, or errno arg3
	MOVD (R0), R9
	AND  R1, R9, R9
	CMP  R2, R9
	BEQ  passed
	NEG  R3, R0
	B    failed
store:                             // *arg0 = arg1
	MOVD R1, (R0)
passed:
	MOVD ZR, R0
	B    done
failed:
	NEG  R0, R0
	CMP  $4, R0                // EINTR: again
	BEQ  loop
	MOVD 80(R19), R9
	CMP  $64, R0
	BLO  tolerated
	MOVD 88(R19), R9
	CMP  $128, R0
	BHS  fatal
tolerated:
	LSR  R0, R9, R9            // by R0 modulo 64
	TBZ  $0, R9, fatal
	MOVD R0, 24(R20)           // for who wants to know which
	MOVD 72(R19), R19
	B    loop
fatal:
	MOVD R0, 16(R20)
	MOVD R19, 24(R20)
	MOVD 0(R19), R9
	MOVD R9, 32(R20)
	MOVD $64, R8               // write
	MOVD 40(R20), R0
	ADD  $8, R20, R1
	MOVD $32, R2
	SVC
	MOVD $94, R8               // exit_group
	MOVD $1, R0
	SVC
	BRK
	// The end, as image.go finds it.
	WORD $0x4544414c
	WORD $0x444e452d

// func spawn(args *cloneArgs, size, header uintptr) uintptr
TEXT ·spawn(SB), NOSPLIT, $0-32
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD header+16(FP), R20
	MOVD $435, R8              // clone3
	SVC
	CBZ  R0, child
	MOVD R0, ret+24(FP)
	RET
child:
	B    ·interpreter(SB)

// func interpreterPC() *byte
TEXT ·interpreterPC(SB), NOSPLIT, $0-8
	MOVD $·interpreter(SB), R0
	MOVD R0, ret+0(FP)
	RET
