package e2e

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lade/test/terminal"
)

// TestKilledEngine kills the engine at random moments while containers print
// numbered lines, and while commands come and go. No container dies, no line
// is lost or doubled, every exit code is right, and nothing is left.
func TestKilledEngine(t *testing.T) {
	const containers, kills = 20, 200
	h := newHost(t)
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	before := h.settled(nil)
	// Odd ones print until they are told to stop and then end with their
	// number; even ones end by themselves while the engine comes and goes.
	script := `n=$1; i=0; stop=; trap 'stop=1' TERM
while [ -z "$stop" ] && { [ $((n % 2)) = 1 ] || [ $i -lt $((n * 40)) ]; }; do echo line $i; i=$((i + 1)); sleep 0.02; done
echo last $i; exit $((n + 10))`
	ids := make([]string, containers)
	for n := range ids {
		ids[n] = h.must("run", "-d", "--network", "none", "lade/toolbox", "sh", "-c", script, "sh", strconv.Itoa(n))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var background sync.WaitGroup
	for range kills {
		// Something is asked of the engine when it dies; whatever it answers.
		if random.IntN(4) == 0 {
			c := h.command(t.Context(), "run", "--rm", "--network", "none", "lade/toolbox", "true")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			background.Go(func() { _ = c.Wait() })
		}
		h.killEngineIn(time.Duration(random.IntN(60)) * time.Millisecond)
		h.startEngine()
	}
	background.Wait()
	for n, id := range ids {
		if n%2 == 1 {
			if got := h.must("inspect", "-f", "{{.State.Status}}", id); got != "running" {
				t.Errorf("container %d is %s", n, got)
			}
			h.must("kill", "-s", "TERM", id)
		}
	}
	for n, id := range ids {
		if got := h.must("wait", id); got != strconv.Itoa(n+10) {
			t.Errorf("container %d: exit code %s, want %d", n, got, n+10)
		}
		checkNumbered(t, n, h.must("logs", id))
		h.must("rm", id)
	}
	// What the commands left when the engine died under them is theirs to see
	// and to remove, but not running unseen.
	if left := strings.Fields(h.must("ps", "-aq")); len(left) > 0 {
		h.must(append([]string{"rm", "-f"}, left...)...)
	}
	h.checkLeft(before)
}

// checkNumbered checks that log holds "line 0" to "line N-1" and "last N".
func checkNumbered(t *testing.T, container int, log string) {
	t.Helper()
	lines := strings.Split(log, "\n")
	last := len(lines) - 1
	for i, line := range lines[:last] {
		if line != fmt.Sprintf("line %d", i) {
			t.Errorf("container %d: %q stands where line %d should", container, line, i)
			return
		}
	}
	if lines[last] != fmt.Sprintf("last %d", last) {
		t.Errorf("container %d ends with %q after %d lines", container, lines[last], last)
	}
}

// TestAttachedSessionOutlivesTheEngine runs a program in the foreground, kills
// the engine under it, and still gets all output and the exit code.
func TestAttachedSessionOutlivesTheEngine(t *testing.T) {
	h := newHost(t)
	x := terminal.Start(t, h.command(t.Context(), "run", "--rm", "-it", "--network", "none", "lade/toolbox", "sh"))
	x.Enter("echo be$((1))fore\n")
	x.See("be1fore")
	h.killEngine()
	x.Enter("echo whi$((2))le\n")
	x.See("whi2le")
	h.startEngine()
	x.Enter("echo af$((3))ter\n")
	x.See("af3ter")
	x.Enter("exit 5\n")
	if code := x.Exit(); code != 5 {
		t.Errorf("exit %d, want 5", code)
	}
	if left := h.must("ps", "-aq"); left != "" {
		t.Errorf("left: %s", left)
	}
}
