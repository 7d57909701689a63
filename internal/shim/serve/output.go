package serve

import (
	"encoding/binary"
	"syscall"

	"lade/internal/linux/poll"
	"lade/internal/logs"
)

// muxHead is the length of the header with which Docker frames output for
// clients that get both streams on one connection: stream, 0, 0, 0, length.
const muxHead = 8

// chunk is how much is read at once: what a pipe holds.
const chunk = 64 << 10

// output is a standard output or error of a process, or its terminal's.
type output struct {
	p      *proc
	fd     int // -1: ended
	stream logs.Stream
}

func (o *output) pause() {
	if o.fd >= 0 {
		_ = o.p.s.loop.set(o.fd, 0)
	}
}

func (o *output) resume() {
	if o.fd < 0 || o.p.pidfd < 0 {
		return
	}
	l := o.p.s.loop
	var err error
	if l.watches[o.fd] == nil {
		err = l.watch(o.fd, poll.In, func(poll.Events) { o.pump() })
	} else {
		err = l.set(o.fd, poll.In)
	}
	if err != nil {
		o.close()
	}
}

// pump passes one read's worth on, and reports whether there was something.
func (o *output) pump() bool {
	frame := o.p.s.frame[:]
	n, again, err := read(o.fd, frame[muxHead:])
	if again {
		return false
	}
	if err != nil || n == 0 {
		// A terminal says EIO when nobody has it open any more.
		o.close()
		return false
	}
	header(frame, o.stream, n)
	o.p.deliver(o.stream, frame[:muxHead+n])
	return true
}

func header(frame []byte, s logs.Stream, n int) {
	clear(frame[:4])
	frame[0] = byte(s)
	binary.BigEndian.PutUint32(frame[4:muxHead], uint32(n))
}

// finish passes on what is there and ends the stream. More than a pipe can
// hold is not from the process that has ended.
func (o *output) finish() {
	const most = 1 << 20 // /proc/sys/fs/pipe-max-size
	for n := 0; o.fd >= 0 && n < most/chunk; n++ {
		if !o.pump() {
			break
		}
	}
	o.close()
}

func (o *output) close() {
	if o.fd >= 0 {
		o.p.s.loop.forget(o.fd)
		_ = syscall.Close(o.fd)
		o.fd = -1
	}
}
