// Command lade is the command line of the Lade container platform.
package main

import (
	"context"
	"os"

	"lade/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), cli.Streams(), os.Args[1:]))
}
