//go:build !unix

package launch

import (
	"context"
	"os/exec"

	"lade/internal/errdefs"
)

func detach(*exec.Cmd) {}

func lock(context.Context, string) (func(), error) {
	return nil, errdefs.New(errdefs.NotImplemented, "an engine can be started on Linux only")
}
