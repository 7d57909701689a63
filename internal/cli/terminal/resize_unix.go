//go:build unix

package terminal

import (
	"os"
	"os/signal"
	"syscall"
)

// NotifyResize sends to c when the terminal's size has changed. Stop it with
// signal.Stop.
func NotifyResize(c chan<- os.Signal) { signal.Notify(c, syscall.SIGWINCH) }
