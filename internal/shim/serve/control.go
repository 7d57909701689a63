package serve

import (
	"errors"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/linux/poll"
	"lade/internal/linux/scm"
	"lade/internal/shim"
	"lade/internal/shim/wire"
)

// maxUnsent bounds the replies that a peer has not read.
const maxUnsent = 1 << 20

// peer is a connection of somebody who drives the shim.
type peer struct {
	s      *server
	fd     int // -1: gone
	dec    wire.Decoder
	files  []int // received, and not yet claimed by a message
	unsent []byte
}

// accept takes connections from the socket in the bundle.
func (s *server) accept(poll.Events) {
	for {
		fd, err := scm.Accept(s.listener)
		if err != nil {
			return
		}
		// The socket's mode keeps others out already; this holds also where
		// somebody has changed it.
		if c, err := scm.Peer(fd); err != nil || c.UID != syscall.Geteuid() && c.UID != 0 {
			_ = syscall.Close(fd)
			continue
		}
		s.hearOut()
		s.welcome(fd)
	}
}

// hearOut takes what those have sent who are connected already. Who comes may
// come because who launched us was killed: what that one has asked for, the
// container say, is then begun before we say how it is.
func (s *server) hearOut() {
	for p := range s.peers {
		for p.fd >= 0 && p.receive() {
		}
	}
}

// welcome greets a peer and serves it.
func (s *server) welcome(fd int) {
	p := &peer{s: s, fd: fd}
	if syscall.SetNonblock(fd, true) != nil || s.loop.watch(fd, poll.In, p.ready) != nil {
		_ = syscall.Close(fd)
		return
	}
	s.peers[p] = true
	var f wire.Fields
	f.AddUint(wire.TagVersion, wire.Version)
	f.AddUint(wire.TagPID, uint64(syscall.Getpid()))
	p.send(wire.Message{Kind: wire.Hello, Fields: f})
	if e := s.container.exit; e != nil {
		p.send(exited(*e))
	}
}

func exited(e shim.Exit) wire.Message {
	var f wire.Fields
	f.AddBytes(wire.TagExit, e.Fields())
	return wire.Message{Kind: wire.Exited, Fields: f}
}

func (p *peer) close() {
	if p.fd < 0 {
		return
	}
	p.s.loop.forget(p.fd)
	_ = syscall.Close(p.fd)
	scm.CloseAll(p.files)
	p.fd, p.files, p.unsent = -1, nil, nil
	delete(p.s.peers, p)
	p.s.check()
}

func (p *peer) ready(ev poll.Events) {
	if ev&poll.Out != 0 {
		p.flush()
	}
	if p.fd >= 0 && ev&^poll.Out != 0 {
		p.receive()
	}
}

// receive takes what has come, and reports whether there was something.
func (p *peer) receive() bool {
	var buf [8192]byte
	n, files, err := scm.Recv(p.fd, buf[:])
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	p.files = append(p.files, files...)
	if err != nil || n == 0 || len(p.files) > 4*wire.MaxFiles {
		p.close()
		return false
	}
	p.dec.Feed(buf[:n])
	for p.fd >= 0 {
		m, ok, err := p.dec.Next()
		if err != nil {
			p.close()
			return false
		}
		if !ok {
			return true
		}
		p.serve(m)
	}
	return false
}

// serve carries out one request.
func (p *peer) serve(m wire.Message) {
	n := m.Fields.Uint(wire.TagFiles)
	if n > uint64(len(p.files)) {
		p.close() // files that it announced did not come
		return
	}
	files := p.files[:n:n]
	p.files = p.files[n:]
	reply := func(f wire.Fields, err error) {
		out := wire.Message{Kind: wire.OK, Request: m.Request, Fields: f}
		if err != nil {
			out = wire.Message{Kind: wire.Failed, Request: m.Request, Fields: shim.ErrorFields(err)}
		}
		p.send(out)
	}
	p.s.dispatch(m, files, reply)
}

// dispatch calls the request's function, which takes over the files.
func (s *server) dispatch(m wire.Message, files []int, reply func(wire.Fields, error)) {
	if m.Kind != wire.Attach && m.Kind != wire.Exec && m.Kind != wire.Create {
		scm.CloseAll(files)
	}
	f := m.Fields
	switch m.Kind {
	case wire.Create:
		s.create(f, files, reply)
	case wire.Start:
		s.start(reply)
	case wire.Signal:
		s.signal(int(f.Uint(wire.TagSignal)), f.String(wire.TagBy), reply)
	case wire.Attach:
		reply(nil, s.attach(shim.AttachFrom(f), files))
	case wire.Exec:
		s.exec(f, files, reply)
	case wire.ExecWait:
		s.execWait(f.String(wire.TagExec), reply)
	case wire.State:
		reply(s.state().Fields(), nil)
	case wire.Resize, wire.CloseStdin:
		p, err := s.find(f.String(wire.TagExec))
		if err == nil && m.Kind == wire.Resize {
			err = p.resize(uint16(f.Uint(wire.TagWidth)), uint16(f.Uint(wire.TagHeight)))
		} else if err == nil {
			err = p.endStdin()
		}
		reply(nil, err)
	default:
		reply(nil, errdefs.New(errdefs.NotImplemented, "this shim knows no request %d", m.Kind))
	}
}

func (p *peer) send(m wire.Message) {
	if p.fd < 0 {
		return
	}
	b, err := m.Append(p.unsent)
	if err != nil || len(b) > maxUnsent {
		p.close()
		return
	}
	p.unsent = b
	p.flush()
}

func (p *peer) flush() {
	n, err := write(p.fd, p.unsent)
	if err != nil {
		p.close()
		return
	}
	p.unsent = p.unsent[n:]
	ev := poll.In
	if len(p.unsent) > 0 {
		ev |= poll.Out
	} else {
		p.unsent = nil
	}
	if p.s.loop.set(p.fd, ev) != nil {
		p.close()
	}
}
