// Package program is what a container's start is made of: a list of kernel
// steps that can be read, compared, printed and executed.
//
// A [Program] is a plain value. A planner makes it from a bundle and the facts
// of the host, without touching the kernel; the executor lowers it to system
// calls. There is no second description: what [Program.Text] prints is the
// value that runs.
//
// The life of a program has four parts. Before are steps of the runtime's own
// process while the child does not exist yet. Clone makes the child. Child are
// the child's steps, each one system call, up to the execve that ends them.
// Beside are the runtime's steps meanwhile; both sides meet at reads and
// writes of the descriptor [Sync].
//
// A step may yield a descriptor, which later steps name by its [Slot]. A step
// whose error is tolerated goes on with Else, one that succeeds with Then;
// both then go on with the step that follows.
package program

import "syscall"

// Slot names a descriptor that a step yields and later steps use.
type Slot string

// Slots that the executor itself provides.
const (
	Sync   Slot = "sync"   // the child's end of the socket pair between child and runtime
	Report Slot = "report" // where the child reports a failure; Sync, until a step yields another
)

// Program is one start: of a container, or of a process in one.
type Program struct {
	Name   string `json:"name"` // for people: "create web", "exec web"
	Before []Step `json:"before,omitempty"`
	Clone  Step   `json:"clone"`
	Beside []Step `json:"beside,omitempty"`
	// Early are the child's steps in the image of the runtime itself, before
	// it becomes the executor.
	Early []Step `json:"early,omitempty"`
	Child []Step `json:"child"`
	// Warnings tell what was asked for and is not in the program.
	Warnings []string `json:"warnings,omitempty"`
}

// Step is one step: a system call, or a tiny fixed group of them on the
// runtime's side.
type Step struct {
	Call string
	Args []Arg
	// Why names the field of config.json, the default or the weakness that
	// asks for the step.
	Why string
	// Tolerate lists errors that do not end the program.
	Tolerate []syscall.Errno
	// Yield names the descriptor that the call returns.
	Yield Slot
	// Say, where set, is the whole message for people when the step fails;
	// otherwise call, arguments and Why are.
	Say string
	// Carry is what a step of the runtime that is more than a system call is
	// carried out from.
	Carry any
	// Result is what the step came to, once it was taken by somebody who timed it.
	Result *Result
	// Then follows success, Else a tolerated error.
	Then, Else []Step
}

// Result is what a step came to.
type Result struct {
	Begin       int64         // nanoseconds since 1970
	Nanoseconds int64         // that it took
	Value       int64         // that the call returned
	Errno       syscall.Errno // that was tolerated, or 0
}

// Steps returns the number of steps in list, nested ones included.
func Steps(list []Step) int {
	n := len(list)
	for i := range list {
		n += Steps(list[i].Then) + Steps(list[i].Else)
	}
	return n
}

// Walk calls f for every step of list in order, nested ones included.
func Walk(list []Step, f func(*Step)) {
	for i := range list {
		f(&list[i])
		Walk(list[i].Then, f)
		Walk(list[i].Else, f)
	}
}
