package serve

import (
	"slices"
	"time"

	"lade/internal/linux/poll"
)

// loop is the one loop in which everything happens: descriptors that are
// ready, and times that have come. Nothing in it may block.
type loop struct {
	poller  *poll.Poller
	watches map[int]*watch
	timers  []*timer
	closed  []int // forgotten since events were last fetched
	over    bool
}

type watch struct {
	events poll.Events // 0: not in the poller
	ready  func(poll.Events)
}

type timer struct {
	at time.Time
	fn func()
}

func newLoop() (*loop, error) {
	p, err := poll.New()
	if err != nil {
		return nil, err
	}
	return &loop{poller: p, watches: map[int]*watch{}}, nil
}

// watch calls ready whenever fd is ready for ev.
func (l *loop) watch(fd int, ev poll.Events, ready func(poll.Events)) error {
	w := &watch{ready: ready}
	l.watches[fd] = w
	if err := l.set(fd, ev); err != nil {
		delete(l.watches, fd)
		return err
	}
	return nil
}

// set changes what fd is watched for. With 0 not even a hang-up is reported.
func (l *loop) set(fd int, ev poll.Events) error {
	w := l.watches[fd]
	if w == nil || w.events == ev {
		return nil
	}
	var err error
	switch {
	case w.events == 0:
		err = l.poller.Add(fd, ev)
	case ev == 0:
		err = l.poller.Remove(fd)
	default:
		err = l.poller.Modify(fd, ev)
	}
	if err == nil {
		w.events = ev
	}
	return err
}

// forget stops watching fd, which may then be closed.
func (l *loop) forget(fd int) {
	if l.watches[fd] != nil {
		_ = l.set(fd, 0)
		delete(l.watches, fd)
		l.closed = append(l.closed, fd)
	}
}

// after calls fn in d, unless the timer is stopped.
func (l *loop) after(d time.Duration, fn func()) *timer {
	t := &timer{time.Now().Add(d), fn}
	l.timers = append(l.timers, t)
	return t
}

func (l *loop) stop(t *timer) {
	l.timers = slices.DeleteFunc(l.timers, func(o *timer) bool { return o == t })
}

// run runs until over is set.
func (l *loop) run() error {
	for !l.over {
		events, err := l.poller.Wait(l.expire())
		if err != nil {
			return err
		}
		l.closed = l.closed[:0]
		for _, e := range events {
			// A handler may have forgotten a descriptor whose event is still
			// to come here, and a new one may bear its number by now.
			if w := l.watches[e.FD]; w != nil && !slices.Contains(l.closed, e.FD) {
				w.ready(e.Events)
			}
		}
	}
	return nil
}

// expire calls what is due and returns how long the rest can wait.
func (l *loop) expire() time.Duration {
	for {
		wait := time.Duration(-1)
		var due *timer
		for _, t := range l.timers {
			left := time.Until(t.at)
			if left <= 0 {
				due = t
				break
			}
			if wait < 0 || left < wait {
				wait = left
			}
		}
		if due == nil {
			return wait
		}
		l.stop(due)
		due.fn()
		if l.over {
			return 0
		}
	}
}
