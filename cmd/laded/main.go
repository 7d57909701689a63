// Command laded is the engine: Docker's API on a Unix socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"lade/internal/daemon"
	"lade/internal/errdefs"
	"lade/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	notify := daemon.NewNotifier()
	o, err := daemon.ParseOptions(os.Args[1:], os.Getenv)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		notify.Failed(err)
		fmt.Fprintln(os.Stderr, "laded:", errdefs.Message(err))
		return 2
	case o.Version:
		fmt.Println("laded", version.Version, version.Revision())
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.LogLevel}))
	slog.SetDefault(log)
	err = daemon.Run(ctx, o, log, notify.Ready)
	notify.Stopping()
	if err != nil {
		notify.Failed(err)
		fmt.Fprintln(os.Stderr, "laded:", errdefs.Message(err))
		return 1
	}
	return 0
}
