package health

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/process"
	"lade/internal/ident"
	"lade/internal/linux/scm"
	"lade/internal/shim"
)

// lastWords is how long the output of a check may take that has ended.
const lastWords = 100 * time.Millisecond

// Run runs a process in a container by its shim, and kills it when ctx ends. It
// returns the exit code and the beginning of what was printed.
func Run(ctx context.Context, sh Execer, bundle string, describe func() (*specs.Process, error)) (code int, output string, err error) {
	p, err := describe()
	if err != nil {
		return 0, "", err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return 0, "", err
	}
	ours, theirs, err := pipe()
	if err != nil {
		return 0, "", err
	}
	defer ours.Close()
	id := "health-" + ident.Short(ident.New())
	defer os.RemoveAll(filepath.Join(bundle, shim.ExecDir, id))
	pid, err := sh.Exec(ctx, shim.ExecConfig{ID: id, Process: raw, Attach: []shim.Attach{{File: theirs, Stdout: true, Stderr: true}}})
	_ = theirs.Close()
	if err != nil {
		return 0, "", err
	}
	first := process.OpenPID(pid)
	if first != nil {
		defer first.Close()
	}
	said := make(chan string, 1)
	go func() { said <- readOutput(ours) }()
	exit, err := sh.ExecWait(ctx, id)
	if ctx.Err() != nil && first != nil {
		_ = process.Kill(first)
	}
	_ = ours.SetReadDeadline(time.Now().Add(lastWords))
	return exit.Code, <-said, err
}

// Execer runs further processes in a container.
type Execer interface {
	Exec(ctx context.Context, e shim.ExecConfig) (pid int, err error)
	ExecWait(ctx context.Context, exec string) (shim.Exit, error)
}

// readOutput reads what a check prints: the beginning is kept.
func readOutput(r io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(r, MaxOutput+1))
	_, _ = io.Copy(io.Discard, r)
	if len(text) > MaxOutput {
		return string(text[:MaxOutput]) + "..."
	}
	return string(text)
}

// pipe returns the two ends of a stream; the first can be waited for.
func pipe() (ours, theirs *os.File, err error) {
	a, b, err := scm.Pair()
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.SetNonblock(a, true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(a), "output of a health check"), os.NewFile(uintptr(b), "output of a health check"), nil
}
