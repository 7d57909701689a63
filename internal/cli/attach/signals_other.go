//go:build !unix

package attach

import "os"

func forwarded() []os.Signal { return []os.Signal{os.Interrupt} }

func signalName(os.Signal) string { return "SIGINT" }

func isStop(os.Signal) bool { return true }
