package kerneltest

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// Patience is how long tests wait for what must come: far longer than it takes
// on a machine that does much else, and shorter than anyone's patience.
const Patience = time.Minute

// Eventually waits until ok. It is for what makes no event: where there is one,
// a descriptor or a channel, wait for that.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	end := time.After(Patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			tb.Fatalf("%s: not within %v", what, Patience)
		}
	}
}

// Command is exec.Command with an end: a program that is not through after
// Patience is killed, and the test fails. Unlike one with the test's context,
// it serves in clean-ups too.
func Command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			tb.Errorf("%s %q: not over within %v", name, args, Patience)
		}
		return cmd.Process.Kill()
	}
	// Nor do those whom it leaves with its output hold the test up for ever.
	cmd.WaitDelay = Patience
	return cmd
}
