package archive

import (
	"io"
	"sync"
	"time"

	"lade/internal/errdefs"
)

// patience is how long a client may take or send nothing while somebody else
// waits for the container.
const patience = 3 * time.Second

// progress watches a copy from or to a container that does not run, and that
// cannot be started before the copy is done.
type progress struct {
	t        *Tree
	patience time.Duration
	stop     func(error)

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil once it is over
}

// watch has stop called when a client stalls while the container is wanted. It
// returns nil, which watches nothing, if nobody can be kept waiting.
func (s *Service) watch(t *Tree, stop func(error)) *progress {
	if t.Wanted == nil {
		return nil
	}
	p := &progress{t: t, patience: s.patience, stop: stop}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.patience, p.stalled)
	return p
}

func (p *progress) stalled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		return
	}
	if !p.t.Wanted() {
		p.timer.Reset(p.patience)
		return
	}
	p.timer = nil
	p.stop(errdefs.New(errdefs.Unavailable, "the copy was given up: for %v nothing moved, and somebody waits for container %s", p.patience, p.t.ID))
}

// moved says that the client is there.
func (p *progress) moved() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Reset(p.patience)
	}
}

func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

type movingWriter struct {
	io.Writer
	p *progress
}

func (w *movingWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.p.moved()
	return n, err
}

// movingReader returns what a client sends, as long as it does. Who has called
// end can give the container back, though a read of a client that has stalled
// goes on: it ends with the client's connection.
func (s *Service) movingReader(t *Tree, content io.Reader) (_ io.Reader, end func()) {
	r, w := io.Pipe()
	p := s.watch(t, func(err error) { w.CloseWithError(err) })
	if p == nil {
		return content, func() {}
	}
	go func() {
		_, err := io.Copy(&movingWriter{w, p}, content)
		w.CloseWithError(err)
	}()
	return r, func() {
		p.end()
		_ = r.Close()
	}
}
