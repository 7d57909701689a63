package transfer

import (
	"sync"
	"time"
)

// pause is the least time between two reports of the same count.
const pause = 100 * time.Millisecond

// reporter passes progress on, one call at a time.
type reporter struct {
	mu sync.Mutex
	fn func(Progress) // guarded by mu: it is called under it
}

func newReporter(fn func(Progress)) *reporter { return &reporter{fn: fn} }

func (r *reporter) send(p Progress) {
	if r.fn == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fn(p)
}

// counting returns a function that reports how far an action is. It is for one
// goroutine.
func (r *reporter) counting(id, action string, total int64) func(int64) {
	var last time.Time
	return func(n int64) {
		if now := time.Now(); now.Sub(last) >= pause || n == total {
			last = now
			r.send(Progress{ID: id, Action: action, Current: n, Total: total})
		}
	}
}

// extraction reports how many packed bytes were unpacked. While the download
// goes on, that is the news, and the extraction keeps quiet.
type extraction struct {
	r     *reporter
	id    string
	total int64

	mu   sync.Mutex
	loud bool      // guarded by mu
	last time.Time // guarded by mu
	n    int64     // guarded by mu
}

func (r *reporter) extracting(id string, total int64) *extraction {
	return &extraction{r: r, id: id, total: total}
}

// later notes that n bytes were unpacked.
func (e *extraction) later(n int64) {
	e.mu.Lock()
	now := time.Now()
	e.n = n
	tell := e.loud && now.Sub(e.last) >= pause
	if tell {
		e.last = now
	}
	e.mu.Unlock()
	if tell {
		e.r.send(Progress{ID: e.id, Action: "Extracting", Current: n, Total: e.total})
	}
}

// begin makes the extraction the news.
func (e *extraction) begin() {
	e.mu.Lock()
	e.loud, e.last = true, time.Now()
	n := e.n
	e.mu.Unlock()
	e.r.send(Progress{ID: e.id, Action: "Extracting", Current: n, Total: e.total})
}
