package dockerapi

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Conns knows the connections of a server whose ConnState is its Note. It is
// there because Shutdown drops a request that it finds half read, and a client
// whose first request that was takes the engine for dead.
type Conns struct {
	mu      sync.Mutex
	open    map[net.Conn]http.ConnState // guarded by mu
	changed chan struct{}               // closed at the next change, if somebody waits; guarded by mu
}

// Note is called at each change of a connection.
func (c *Conns) Note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	case http.StateNew, http.StateActive, http.StateIdle:
		if c.open == nil {
			c.open = map[net.Conn]http.ConnState{}
		}
		c.open[conn] = state
	}
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// Drain waits until all requests that came to s, whose connections c knows, are
// answered, and ctx at most. s must not accept any more. A connection that was
// made and says nothing is given time to.
func (c *Conns) Drain(ctx context.Context, s *http.Server, silent time.Duration) error {
	s.SetKeepAlivesEnabled(false) // each ends after the answer that it is at
	quiet := time.NewTimer(silent)
	defer quiet.Stop()
	for patient := true; ; {
		c.mu.Lock()
		busy := false
		for _, state := range c.open {
			busy = busy || state == http.StateActive || state == http.StateNew && patient
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-changed:
		case <-quiet.C:
			patient = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
