// Command lade-runtime is Lade's OCI runtime.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"lade/internal/runtime/command"
)

func main() {
	// It lives for milliseconds and uses a megabyte: collecting costs more.
	debug.SetGCPercent(-1)
	os.Exit(command.Main(context.Background(), os.Args[1:]))
}
