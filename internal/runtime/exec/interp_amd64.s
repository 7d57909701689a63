#include "textflag.h"

// The interpreter of lowered programs. It touches no stack, calls nothing and
// refers to nothing by address, so that it runs equally in the child of
// vfork, inside this very process image, and as the only code of an ELF image
// (see image.go), where the kernel starts it with every register zero.
//
// R13 header: 0 first op, 8 magic, 16 errno, 24 failed op, 32 its call, 40 descriptor for the report
// R12 op:     0 call, 8..48 addresses of six arguments, 56 address for the result,
//             64 next op, 72 next op after a tolerated error, 80 and 88 tolerated errnos 0..127
TEXT ·interpreter(SB), NOSPLIT|NOFRAME, $0-0
	TESTQ R13, R13
	JNZ   begin
	MOVQ  $0x401000, R13       // dataBase: started by the kernel
begin:
	MOVQ  0(R13), R12
loop:
	MOVQ  0(R12), AX
	MOVQ  8(R12), DI
	MOVQ  (DI), DI
	MOVQ  16(R12), SI
	MOVQ  (SI), SI
	MOVQ  24(R12), DX
	MOVQ  (DX), DX
	MOVQ  32(R12), R10
	MOVQ  (R10), R10
	MOVQ  40(R12), R8
	MOVQ  (R8), R8
	MOVQ  48(R12), R9
	MOVQ  (R9), R9
	CMPQ  AX, $-1
	JEQ   check
	CMPQ  AX, $-2
	JEQ   store
	SYSCALL
	CMPQ  AX, $-4095
	JCC   failed
done:
	MOVQ  56(R12), BX
	MOVQ  AX, (BX)
	MOVQ  64(R12), R12
	JMP   loop
check:                             // *arg0 & arg1 == arg2, or errno arg3
	MOVQ  (DI), AX
	ANDQ  SI, AX
	CMPQ  AX, DX
	JEQ   passed
	MOVQ  R10, AX
	NEGQ  AX
	JMP   failed
store:                             // *arg0 = arg1
	MOVQ  SI, (DI)
passed:
	XORQ  AX, AX
	JMP   done
failed:
	NEGQ  AX
	CMPQ  AX, $4               // EINTR: again
	JEQ   loop
	MOVQ  AX, CX
	MOVQ  80(R12), BX
	CMPQ  AX, $64
	JCS   tolerated
	MOVQ  88(R12), BX
	CMPQ  AX, $128
	JCC   fatal
tolerated:
	BTQ   CX, BX
	JCC   fatal
	MOVQ  AX, 24(R13)          // for who wants to know which
	MOVQ  72(R12), R12
	JMP   loop
fatal:
	MOVQ  AX, 16(R13)
	MOVQ  R12, 24(R13)
	MOVQ  0(R12), BX
	MOVQ  BX, 32(R13)
	MOVQ  $1, AX               // write
	MOVQ  40(R13), DI
	LEAQ  8(R13), SI
	MOVQ  $32, DX
	SYSCALL
	MOVQ  $231, AX             // exit_group
	MOVQ  $1, DI
	SYSCALL
	INT    $3
	// The end, as image.go finds it.
	BYTE $0x4c; BYTE $0x41; BYTE $0x44; BYTE $0x45; BYTE $0x2d; BYTE $0x45; BYTE $0x4e; BYTE $0x44

// func spawn(args *cloneArgs, size, header uintptr) uintptr
TEXT ·spawn(SB), NOSPLIT, $0-32
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ header+16(FP), R13
	MOVQ $435, AX              // clone3
	SYSCALL
	TESTQ AX, AX
	JZ   child
	MOVQ AX, ret+24(FP)
	RET
child:
	JMP ·interpreter(SB)

// func interpreterPC() *byte
TEXT ·interpreterPC(SB), NOSPLIT, $0-8
	LEAQ ·interpreter(SB), AX
	MOVQ AX, ret+0(FP)
	RET
