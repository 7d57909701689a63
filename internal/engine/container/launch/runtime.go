package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"lade/internal/engine/container/ocispec"
	"lade/internal/engine/container/record"
)

// The shim drives the runtime. The engine calls it only for what has no shim:
// to freeze and thaw, to change limits, to explain, and to remove what a dead shim left.

// Command runs one command of a container's runtime, and returns what
// it printed.
func (l *Launcher) Command(ctx context.Context, def record.Definition, args ...string) ([]byte, error) {
	return l.command(ctx, def, nil, args...)
}

// command is Command with something to read.
func (l *Launcher) command(ctx context.Context, def record.Definition, in io.Reader, args ...string) ([]byte, error) {
	rt := l.Runtime(def.Host.Runtime)
	argv := append([]string{"--root", l.cfg.RuntimeRoot()}, rt.Args...)
	cmd := exec.CommandContext(ctx, rt.Program, append(argv, args...)...)
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errOut
	if err := cmd.Run(); err != nil {
		if text := bytes.TrimSpace(errOut.Bytes()); len(text) > 0 {
			err = errors.New(string(text))
		}
		return nil, fmt.Errorf("%s %s: %w", rt.Name, args[0], err)
	}
	return out.Bytes(), nil
}

// Delete makes the runtime forget a container, whatever is left of it.
func (l *Launcher) Delete(ctx context.Context, def record.Definition) error {
	_, err := l.Command(ctx, def, "delete", "--force", def.ID)
	return err
}

// Update makes the limits of a container that runs those of its definition.
func (l *Launcher) Update(ctx context.Context, def record.Definition) error {
	raw, err := json.Marshal(ocispec.Limits(def.Host, l.cfg.Host.Swap))
	if err != nil {
		return err
	}
	_, err = l.command(ctx, def, bytes.NewReader(raw), "update", "--resources", "-", def.ID)
	return err
}
