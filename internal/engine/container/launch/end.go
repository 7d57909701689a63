package launch

import (
	"context"
	"os"
	"syscall"
	"time"

	"lade/internal/engine/container/process"
	"lade/internal/errdefs"
	"lade/internal/shim"
)

// settleEvery is how often a shim is asked that is in the middle of a start: it
// does not tell of its own accord.
const settleEvery = 10 * time.Millisecond

// Settle waits until a shim is not in the middle of something.
func Settle(ctx context.Context, sh Shim) (shim.State, error) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		st, err := sh.State(ctx)
		if err != nil || st.Status != shim.StatusCreating && st.Status != shim.StatusStarting {
			return st, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return st, context.Cause(ctx)
		}
	}
}

// EndShim kills what a shim has started, and waits until the shim has left.
// Before Create, a shim leaves when its connection ends; after it, when the
// container has ended or was never made.
func EndShim(ctx context.Context, sh Shim) error {
	first := process.OpenPID(sh.PID()) // before the id can come to mean another one
	// A container that is being made has no process to be killed yet, but would.
	_, _ = Settle(ctx, sh)
	_ = sh.Signal(ctx, int(syscall.SIGKILL), "engine") // there may be no process
	_ = sh.Close()
	if !process.AwaitEnd(ctx.Done(), first) {
		return errdefs.New(errdefs.Unavailable, "the shim does not leave: %w", context.Cause(ctx))
	}
	return nil
}

// removeBundle removes a bundle, unless a shim still has it: what that one
// makes could not be found again. The sweep at the next start does it then.
func removeBundle(bundle string) error {
	alive, err := shim.Alive(bundle)
	if err == nil && alive {
		err = errdefs.New(errdefs.Unavailable, "the shim of %s has not left", bundle)
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(bundle)
}
