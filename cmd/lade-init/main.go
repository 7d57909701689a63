// Command lade-init is the first process of a container that was started with
// --init.
package main

import (
	"fmt"
	"os"

	"lade/internal/linux/pid1"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	code, err := pid1.Run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lade-init:", err)
	}
	os.Exit(code)
}
