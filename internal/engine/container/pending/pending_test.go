package pending

import (
	"context"
	"os"
	"testing"
	"time"

	"lade/internal/shim"
)

func pipeEnd(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return w
}

// TestStartWaitsForAnnouncedClients starts while a connection is still being
// taken over: the client had its answer and asked for the start at once.
func TestStartWaitsForAnnouncedClients(t *testing.T) {
	var p Clients
	first, second := p.Announce(), p.Announce()
	taken := make(chan []shim.Attach)
	go func() { taken <- p.Take(t.Context()) }()
	p.Add(shim.Attach{File: pipeEnd(t)})
	first()
	select {
	case list := <-taken:
		t.Fatalf("the start went on with %d clients, and one was on its way", len(list))
	case <-time.After(20 * time.Millisecond):
	}
	p.Add(shim.Attach{File: pipeEnd(t)})
	second()
	if list := <-taken; len(list) != 2 {
		t.Errorf("the start found %d clients, want 2", len(list))
	}
}

func TestStartDoesNotWaitForEver(t *testing.T) {
	var p Clients
	defer p.Announce()()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if list := p.Take(ctx); len(list) != 0 {
		t.Errorf("got %d clients", len(list))
	}
}

// TestNobodyWaitsForAContainerThatIsGone checks that the connection of a
// client that comes after the removal is closed.
func TestNobodyWaitsForAContainerThatIsGone(t *testing.T) {
	var p Clients
	before, after := pipeEnd(t), pipeEnd(t)
	p.Add(shim.Attach{File: before})
	p.End()
	p.Add(shim.Attach{File: after})
	for _, f := range []*os.File{before, after} {
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("a connection is still open")
		}
	}
}
