package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"lade/internal/engine/container/record"
)

// The shim drives the runtime. The engine calls it only for what has no shim:
// to freeze and thaw, to explain, and to remove what a dead shim left.

// Command runs one command of a container's runtime, and returns what
// it printed.
func (l *Launcher) Command(ctx context.Context, def record.Definition, args ...string) ([]byte, error) {
	rt := l.Runtime(def.Host.Runtime)
	argv := append([]string{"--root", l.cfg.RuntimeRoot()}, rt.Args...)
	cmd := exec.CommandContext(ctx, rt.Program, append(argv, args...)...)
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
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
