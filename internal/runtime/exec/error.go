package exec

import (
	"errors"
	"fmt"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/runtime/program"
)

// StepError is the failure of one step.
type StepError struct {
	Program string
	Step    program.Step
	// Number is the step's place in the program's text.
	Number int
	Errno  syscall.Errno
}

// Error names what was wanted in the words of the step, or, where the planner
// gave none, the step itself.
func (e *StepError) Error() string {
	if e.Step.Say != "" {
		return e.Step.Say + ": " + e.Errno.Error()
	}
	s := e.Step
	s.Tolerate = nil
	text := fmt.Sprintf("%s: step %d: %s: %v", e.Program, e.Number, s.Text(), e.Errno)
	if s.Why != "" {
		text += " (" + s.Why + ")"
	}
	return text
}

// Unwrap returns the errno.
func (e *StepError) Unwrap() error { return e.Errno }

func stepError(p *program.Program, s *program.Step, errno syscall.Errno) error {
	if s == nil {
		return fmt.Errorf("%s: a step that is not in the program: %w", p.Name, errno)
	}
	err := &StepError{Program: p.Name, Step: *s, Errno: errno}
	n := 0
	count := func(have *program.Step) {
		n++
		if have == s {
			err.Number = n
		}
	}
	program.Walk(p.Before, count)
	count(&p.Clone)
	program.Walk(p.Beside, count)
	program.Walk(p.Early, count)
	program.Walk(p.Child, count)
	return hint(err)
}

// hint adds what can be done where the errno tells enough.
func hint(err *StepError) error {
	var h string
	switch {
	case errors.Is(err.Errno, syscall.ENOSYS):
		h = "this kernel lacks the call " + err.Step.Call + "; Lade needs Linux 5.14 or newer"
	case err.Step.Call == "execveat" && errors.Is(err.Errno, syscall.EACCES):
		h = "the kernel refuses to execute a memfd; set sysctl vm.memfd_noexec below 2"
	case errors.Is(err.Errno, syscall.ENOSPC) && err.Step.Call == "clone3":
		h = "a limit on namespaces is reached; see /proc/sys/user/max_*_namespaces"
	default:
		return err
	}
	return errdefs.Hint(err, "%s", h)
}
