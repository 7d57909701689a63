// Command lade-shim stands beside one container: it is the parent of its first
// process and keeps its standard streams, its log and its exit record. The
// engine starts it; it is not meant for people.
package main

import (
	"fmt"
	"os"

	"lade/internal/shim/serve"
	"lade/internal/version"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lade-shim BUNDLE | --version")
		os.Exit(2)
	}
	if os.Args[1] == "--version" {
		fmt.Println("lade-shim", version.Version)
		return
	}
	if err := serve.Run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "lade-shim:", err)
		os.Exit(1)
	}
}
