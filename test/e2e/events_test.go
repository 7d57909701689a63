package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestEventsOverKills kills the engine at random moments while containers come
// and go. The events are numbered without gaps, and each container's are whole:
// none is missing, none comes twice, in an order that can be. A client that
// listens all the while has seen the same. Nothing is left of any container.
func TestEventsOverKills(t *testing.T) {
	const kills = 60
	h := newHost(t)
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	before := h.settled(nil)
	listener := h.command(t.Context(), "events", "--since", "#0", "--format", "json")
	out, err := listener.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Start(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() { heard <- upToLast(out) }()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var background sync.WaitGroup
	for i := range kills {
		args := []string{"run", "-d", "--network", "none", "lade/toolbox", "sh", "-c", "sleep 0.05; exit 4"}
		if i%2 == 0 {
			args = slices.Insert(args, 1, "--rm")
		}
		c := h.command(t.Context(), args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		background.Go(func() { _ = c.Wait() }) // whatever it answers
		h.killEngineIn(time.Duration(random.IntN(80)) * time.Millisecond)
		h.startEngine()
	}
	background.Wait()
	for id := range strings.FieldsSeq(h.must("ps", "-aq", "--no-trunc")) {
		if h.must("inspect", "-f", "{{.State.Status}}", id) != "created" {
			h.must("wait", id)
		}
		h.must("rm", "-f", id)
	}
	all := h.must("events", "--since", "#0", "--until", "0s", "--format", "json")
	actions := map[string][]string{}
	for i, line := range strings.Split(all, "\n") {
		var e struct {
			Type   string
			Action string
			Actor  struct {
				ID         string
				Attributes map[string]string
			}
			Number int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Number != i+1 {
			t.Fatalf("event %d stands where %d should", e.Number, i+1)
		}
		if e.Type == "container" && e.Action != "attach" && e.Action != "kill" {
			actions[e.Actor.ID] = append(actions[e.Actor.ID], e.Action)
		}
		if e.Action == "die" && e.Actor.Attributes["exitCode"] != "4" && e.Actor.Attributes["exitCode"] != "0" {
			t.Errorf("an exit code that nobody gave: %s", line)
		}
	}
	whole := 0
	for id, list := range actions {
		switch got := strings.Join(list, " "); got {
		case "create start die destroy":
			whole++
		case "create destroy": // whoever wanted it started was cut off
		default:
			t.Errorf("container %.12s: %s", id, got)
		}
	}
	if whole == 0 {
		t.Error("no container lived through it all")
	}
	// A last event, after which the listener has heard all.
	h.must("run", "--rm", "--name", "the-last-one", "--network", "none", "lade/toolbox", "true")
	got := <-heard
	_ = listener.Process.Kill()
	_ = listener.Wait()
	h.checkLeft(before)
	if !strings.HasPrefix(got, all) {
		t.Errorf("who listened has heard something else:\n%.2000s\n--- want\n%.2000s", got, all)
	}
}

// upToLast reads events up to the end of the container the-last-one.
func upToLast(r io.Reader) string {
	var b strings.Builder
	in := bufio.NewScanner(r)
	for in.Scan() {
		b.Write(in.Bytes())
		b.WriteByte('\n')
		if strings.Contains(in.Text(), `"Action":"destroy"`) && strings.Contains(in.Text(), "the-last-one") {
			break
		}
	}
	return b.String()
}
