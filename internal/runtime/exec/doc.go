// Package exec carries programs out.
//
// The runtime's own steps are taken one by one, as Go. The child's steps are
// lowered before there is a child: to a table of system calls with their
// arguments, in an ELF image whose only code is an interpreter of fifty
// instructions. The image lies in a sealed memfd. The child is cloned as by
// vfork, sharing the runtime's memory for the few steps up to execveat of that
// memfd, and from then on it is a process of three pages: no Go runtime, no
// descriptor of the host that the program does not name, nothing of the
// runtime's binary (see docs/adr/0001-start-program.md).
//
// The child tells of itself over a socket pair in packets: one byte for a
// milestone (ready, created, executing), 32 bytes for a failure: which step,
// which errno. It stays silent for ever once its program is executed.
package exec
