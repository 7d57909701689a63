// Package pending keeps the clients that wait for a container's start.
//
// A client is announced when its attach begins, added when its connection is
// in hand, and taken by the start, which hands it to the shim. What is not
// taken is dropped: its connection is closed.
package pending

import (
	"context"
	"slices"
	"sync"

	"lade/internal/linux/poll"
	"lade/internal/shim"
)

// Clients are the clients that wait for a container's start, and those
// whose connections are just being taken over: a client asks for the start as
// soon as it has its answer, which may be before the connection is here.
type Clients struct {
	mu        sync.Mutex
	list      []shim.Attach // guarded by mu
	announced int           // connections on their way; guarded by mu
	quiet     chan struct{} // closed when announced falls to 0; nil if nobody waits; guarded by mu
	closed    bool          // the container is gone; guarded by mu
}

// Announce makes the next Take wait until the returned function is called.
func (p *Clients) Announce() (arrived func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announced++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.announced--
		if p.announced == 0 && p.quiet != nil {
			close(p.quiet)
			p.quiet = nil
		}
	}
}

// Add puts a client among those who wait. Those that have left must not pile
// up until the start.
func (p *Clients) Add(a shim.Attach) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = slices.DeleteFunc(p.list, func(a shim.Attach) bool {
		if !poll.HungUp(a.File) {
			return false
		}
		_ = a.File.Close()
		return true
	})
	if p.closed {
		_ = a.File.Close()
		return
	}
	p.list = append(p.list, a)
}

// Take returns the clients that wait, once all that were announced are here.
func (p *Clients) Take(ctx context.Context) []shim.Attach {
	for {
		p.mu.Lock()
		if p.announced == 0 || ctx.Err() != nil {
			list := p.list
			p.list = nil
			p.mu.Unlock()
			return list
		}
		if p.quiet == nil {
			p.quiet = make(chan struct{})
		}
		quiet := p.quiet
		p.mu.Unlock()
		select {
		case <-quiet:
		case <-ctx.Done():
		}
	}
}

// Now returns the clients that wait, and waits for none.
func (p *Clients) Now() []shim.Attach {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list = nil
	return list
}

// Drop lets the clients that wait go.
func (p *Clients) Drop() { Close(p.Now()) }

// End is Drop for good: whoever comes later is let go at once.
func (p *Clients) End() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Drop()
}

// Close closes the engine's descriptors of clients' connections.
func Close(list []shim.Attach) {
	for _, a := range list {
		_ = a.File.Close()
	}
}
