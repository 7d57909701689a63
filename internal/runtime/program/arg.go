package program

// Kind says what an argument is.
type Kind uint8

// The kinds of argument.
const (
	KindInt         Kind = iota // N
	KindFlags                   // N, with the names of its bits
	KindString                  // S, NUL-terminated when lowered
	KindFD                      // the descriptor in Slot S
	KindBytes                   // the address of Data
	KindBuffer                  // the address of N zeroed bytes, shared by name S
	KindStrings                 // List as a NULL-terminated vector
	KindFDMsg                   // a msghdr that passes the descriptor in Slot S, with Data
	KindFilter                  // a sock_fprog of the instructions in Data
	KindSlotAddress             // the address where Slot S is kept
	KindField                   // the word at N in the buffer named S
)

// Arg is one argument of a step. It is small on purpose: a start has a
// thousand of them.
type Arg struct {
	Kind Kind
	N    uint64
	S    string
	more any // by kind: []Flag, data, []string
}

// data is a structure, and its text for people.
type data struct {
	bytes []byte
	text  func() string
}

// Data returns the bytes of a structure, a message's payload or a filter.
func (a *Arg) Data() []byte {
	d, _ := a.more.(*data)
	if d == nil {
		return nil
	}
	return d.bytes
}

// List returns the strings of a vector.
func (a *Arg) List() []string {
	l, _ := a.more.(*[]string)
	if l == nil {
		return nil
	}
	return *l
}

// Flag is the name of a bit, or of a group of bits, in a flags word.
type Flag struct {
	Bits uint64
	Name string
}

// FlagNames are the names of a word's bits.
type FlagNames []Flag

// Int is a number.
func Int[T ~int | ~int64 | ~uint32 | ~uint64 | ~int32 | ~uint | ~uintptr](n T) Arg {
	return Arg{Kind: KindInt, N: uint64(n)}
}

// Octal is a number that people read in octal: a file mode.
func Octal(n uint32) Arg { return Arg{Kind: KindInt, N: uint64(n), S: "o"} }

// Named is a number with a name.
func Named(n uint64, name string) Arg { return Arg{Kind: KindInt, N: n, S: name} }

// Flags is a word of flags, printed by names.
func Flags(n uint64, names *FlagNames) Arg { return Arg{Kind: KindFlags, N: n, more: names} }

// String is a string that the call is given the address of.
func String(s string) Arg { return Arg{Kind: KindString, S: s} }

// FD is the descriptor in a slot.
func FD(s Slot) Arg { return Arg{Kind: KindFD, S: string(s)} }

// Bytes is a structure by address, with its text for people.
func Bytes(b []byte, text string) Arg { return Arg{Kind: KindBytes, more: &data{bytes: b}, S: text} }

// Struct is a structure by address; text is asked for only when somebody reads.
func Struct(b []byte, text func() string) Arg {
	return Arg{Kind: KindBytes, more: &data{bytes: b, text: text}}
}

// Buffer is memory for the call to fill. Steps that name the same buffer
// share it.
func Buffer(name string, size int) Arg { return Arg{Kind: KindBuffer, S: name, N: uint64(size)} }

// Strings is a vector of strings, as execve takes it.
func Strings(list []string) Arg { return Arg{Kind: KindStrings, more: &list} }

// FDMessage is a message that passes the descriptor in a slot; payload goes
// with it.
func FDMessage(s Slot, payload string) Arg {
	return Arg{Kind: KindFDMsg, S: string(s), more: &data{bytes: []byte(payload)}}
}

// Filter is a classic BPF program for seccomp: instructions of eight bytes.
func Filter(insns []byte) Arg { return Arg{Kind: KindFilter, more: &data{bytes: insns}} }

// SlotAddress is the address of the word that a step's result went to.
func SlotAddress(s Slot) Arg { return Arg{Kind: KindSlotAddress, S: string(s)} }

// Field is the word at an offset of a buffer that an earlier step filled.
func Field(buffer string, offset int) Arg { return Arg{Kind: KindField, S: buffer, N: uint64(offset)} }

// CWD stands for the directory of the process.
func CWD() Arg { return Named(^uint64(99), "AT_FDCWD") }

// Check is a step of the executor alone: it goes on when the 64-bit word in
// the buffer, under mask, equals want, and otherwise fails with errno.
func Check(buffer string, mask, want uint64, errno uint64) []Arg {
	return []Arg{Buffer(buffer, 8), Named(mask, ""), Int(want), Int(errno)}
}

// CheckField is Check for the word at an offset of the buffer.
func CheckField(buffer string, offset int, mask, want uint64, errno uint64) []Arg {
	return []Arg{Field(buffer, offset), Named(mask, ""), Int(want), Int(errno)}
}
