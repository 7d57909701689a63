// Command lade-selftest shows what holds on this machine. It is a program of
// its own so that lade need not carry it; "lade selftest" executes it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"lade/internal/gauntlet"
)

// inside tells the program that it is in a mount namespace of its own.
const inside = "LADE_SELFTEST_INSIDE"

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("lade selftest gauntlet", flag.ContinueOnError)
	runtime := flags.String("runtime", "lade-runtime", "the OCI `runtime` to attack")
	if len(os.Args) < 2 || os.Args[1] != "gauntlet" {
		fmt.Fprintln(os.Stderr, "usage: lade selftest gauntlet [--runtime BINARY]")
		return 2
	}
	if err := flags.Parse(os.Args[2:]); err != nil || flags.NArg() > 0 {
		return 2
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "lade-selftest: attacks on a runtime are made as root; use sudo")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if os.Getenv(inside) == "" {
		return again(ctx)
	}
	green, err := attack(ctx, *runtime)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "lade-selftest:", err)
		return 2
	case !green:
		return 1
	}
	return 0
}

// again runs the program in a mount namespace of its own, so that what an
// attack mounts ends with it.
func again(ctx context.Context) int {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	_ = cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "lade-selftest: cannot make a mount namespace")
		return 2
	}
	return cmd.ProcessState.ExitCode()
}

func attack(ctx context.Context, runtime string) (bool, error) {
	path, err := exec.LookPath(runtime)
	if err != nil {
		self, _ := os.Executable()
		if path, err = exec.LookPath(filepath.Join(filepath.Dir(self), runtime)); err != nil {
			return false, err
		}
	}
	dir, err := os.MkdirTemp("", "gauntlet-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // users of containers pass
		return false, err
	}
	r, err := gauntlet.Runtime{Path: path, Rootfs: gauntlet.Busybox}.Copy(dir)
	if err != nil {
		return false, err
	}
	return gauntlet.Scoreboard(ctx, os.Stdout, r, dir), nil
}
