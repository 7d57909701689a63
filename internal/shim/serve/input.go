package serve

import (
	"errors"
	"syscall"

	"lade/internal/linux/poll"
)

// input is the standard input of a process.
type input struct {
	loop    *loop
	fd      int // -1: closed
	pending []byte
	closing bool   // close when pending is written
	drained func() // called when pending has become empty
}

// newInput takes fd over; it must not block.
func newInput(l *loop, fd int, drained func()) *input {
	return &input{loop: l, fd: fd, drained: drained}
}

// full reports whether no more should be written for now.
func (in *input) full() bool { return in != nil && len(in.pending) > 0 }

// write takes all of b. To nobody, it is dropped.
func (in *input) write(b []byte) {
	if in == nil || in.fd < 0 || in.closing || len(b) == 0 {
		return
	}
	if !in.full() {
		n, err := write(in.fd, b)
		if err != nil {
			in.shut()
			return
		}
		b = b[n:]
	}
	if len(b) == 0 {
		return
	}
	in.pending = append(in.pending, b...)
	in.await()
}

func (in *input) await() {
	var err error
	if in.loop.watches[in.fd] == nil {
		err = in.loop.watch(in.fd, poll.Out, in.ready)
	} else {
		err = in.loop.set(in.fd, poll.Out)
	}
	if err != nil {
		in.shut()
	}
}

func (in *input) ready(poll.Events) {
	n, err := write(in.fd, in.pending)
	if err != nil {
		in.shut() // nobody reads any more
		return
	}
	in.pending = in.pending[n:]
	if in.full() {
		return
	}
	in.pending = nil
	_ = in.loop.set(in.fd, 0)
	if in.closing {
		in.shut()
		return
	}
	in.drained()
}

// close ends the input behind what is pending.
func (in *input) close() {
	if in == nil || in.fd < 0 {
		return
	}
	in.closing = true
	if !in.full() {
		in.shut()
	}
}

// shut ends the input now.
func (in *input) shut() {
	if in == nil || in.fd < 0 {
		return
	}
	in.loop.forget(in.fd)
	_ = syscall.Close(in.fd)
	in.fd, in.pending = -1, nil
	in.drained()
}

// write writes what fd takes of b now: perhaps nothing.
func write(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := syscall.Write(fd, b[done:])
		switch {
		case err == nil:
			done += n
		case errors.Is(err, syscall.EAGAIN):
			return done, nil
		case !errors.Is(err, syscall.EINTR):
			return done, err
		}
	}
	return done, nil
}

// read reads what is there, and says with again that nothing is for now. At
// the end of the stream n is 0.
func read(fd int, b []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(fd, b)
		switch {
		case err == nil:
			return n, false, nil
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		case !errors.Is(err, syscall.EINTR):
			return 0, false, err
		}
	}
}
