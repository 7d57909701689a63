package exec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The executor's image: an ELF file of two segments. The first holds the
// headers and the interpreter's code, the second the lowered program. Nothing
// else is mapped, so that the kernel sets it up and tears it down in the time
// of a few page faults, and a container that waits to be started costs three
// pages.
const (
	textBase = 0x200000
	textSize = 0x1000
	dataBase = 0x400000 + textSize // congruent to its offset for every page size up to 64 KiB
	elfHead  = 64 + 3*56
)

func interpreterPC() *byte

// interpreterCode returns the machine code of the interpreter: it refers to
// nothing by address, so a copy works as well as the original.
func interpreterCode() []byte {
	end := [8]byte{'L', 'A', 'D', 'E', '-', 'E', 'N', 'D'}
	code := unsafe.Slice(interpreterPC(), textSize-elfHead)
	for i := range len(code) - len(end) {
		if [8]byte(code[i:i+8]) == end {
			return code[:i]
		}
	}
	panic("the interpreter has no end")
}

// image returns the first page of the ELF file for data of n bytes.
func image(n int) []byte {
	b := make([]byte, textSize)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2) // ET_EXEC
	machine := uint16(62)   // EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = 183 // EM_AARCH64
	}
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], textBase+elfHead) // entry
	le.PutUint64(b[32:], 64)               // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 3)
	segment := func(at int, kind, flags uint32, offset, addr, size uint64) {
		le.PutUint32(b[at:], kind)
		le.PutUint32(b[at+4:], flags)
		le.PutUint64(b[at+8:], offset)
		le.PutUint64(b[at+16:], addr)
		le.PutUint64(b[at+24:], addr)
		le.PutUint64(b[at+32:], size)
		le.PutUint64(b[at+40:], size)
		le.PutUint64(b[at+48:], 0x10000)
	}
	const load, stack, r, w, x = 1, 0x6474e551, 4, 2, 1
	segment(64, load, r|x, 0, textBase, textSize)
	segment(64+56, load, r|w, textSize, dataBase, uint64(n))
	segment(64+112, stack, r|w, 0, 0, 0)
	copy(b[elfHead:], interpreterCode())
	return b
}

// memfd returns a descriptor of the image, sealed: from here on nobody, root
// in the container included, can write to what the child executes. This is
// what protects the runtime's own binary (CVE-2019-5736): /proc/PID/exe of
// every process that is on its way into a container leads here.
func memfd(l *lowered, unsealed bool) (int, error) {
	fd, err := unix.MemfdCreate("lade-runtime", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC is Linux 6.3
		fd, err = unix.MemfdCreate("lade-runtime", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, fmt.Errorf("create the executor's image: %w", err)
	}
	head := image(len(l.mem))
	if n, err := unix.Writev(fd, [][]byte{head, l.mem}); err != nil || n != len(head)+len(l.mem) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("write the executor's image: %w", err)
	}
	if unsealed {
		return fd, nil
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("seal the executor's image: %w", err)
	}
	return fd, nil
}
