//go:build !unix

package terminal

import "os"

// NotifyResize does nothing: this system does not tell.
func NotifyResize(chan<- os.Signal) {}
