//go:build unix

package attach

import (
	"os"
	"syscall"
)

// forwarded returns the signals that are passed on. Not among them: those that
// say something about this process (CHLD, PIPE, URG, WINCH, TTIN, TTOU) or that
// it dies of (KILL, STOP, and the faults).
func forwarded() []os.Signal {
	return []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGIO, syscall.SIGXCPU, syscall.SIGXFSZ,
	}
}

// signalName returns the name, not the number: numbers differ between systems,
// and between architectures of Linux.
func signalName(sig os.Signal) string {
	switch sig {
	case syscall.SIGHUP:
		return "SIGHUP"
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGQUIT:
		return "SIGQUIT"
	case syscall.SIGUSR1:
		return "SIGUSR1"
	case syscall.SIGUSR2:
		return "SIGUSR2"
	case syscall.SIGALRM:
		return "SIGALRM"
	case syscall.SIGCONT:
		return "SIGCONT"
	case syscall.SIGTSTP:
		return "SIGTSTP"
	case syscall.SIGIO:
		return "SIGIO"
	case syscall.SIGXCPU:
		return "SIGXCPU"
	case syscall.SIGXFSZ:
		return "SIGXFSZ"
	}
	return "SIGTERM"
}

func isStop(sig os.Signal) bool { return sig == syscall.SIGINT || sig == syscall.SIGTERM }
