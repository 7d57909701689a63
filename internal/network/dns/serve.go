package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver answers one container's queries.
type Resolver struct {
	// Names are what it answers itself.
	Names Names
	// Elsewhere is asked for the rest; nil where nothing is to leave the
	// container's networks: then what Names does not know does not exist.
	Elsewhere Exchange
}

const (
	// inFlight bounds the queries of one container that wait for an answer from
	// elsewhere; one more is answered with a failure at once.
	inFlight = 256
	// maxConns bounds its TCP connections, idleConn how long each may be silent
	// (RFC 7766, 6.2.3).
	maxConns = 32
	idleConn = 10 * time.Second
	// maxQuery bounds a query over UDP; none in use comes near it.
	maxQuery = 4096
)

// Answer returns the answer to a query, or nil if it deserves none.
func (r *Resolver) Answer(ctx context.Context, msg []byte, stream bool) []byte {
	reply, q := r.known(msg, stream)
	if reply != nil || q == nil {
		return reply
	}
	return r.elsewhere(ctx, q, msg, stream)
}

// known answers what needs nobody else. Where that is not so, it returns the query.
func (r *Resolver) known(msg []byte, stream bool) ([]byte, *query) {
	q, code, ok := parse(msg, stream)
	if !ok {
		return nil, nil
	}
	if code != dnsmessage.RCodeSuccess {
		return q.refuse(code), nil
	}
	if reply, ok := q.local(r.Names); ok {
		return reply, nil
	}
	if r.Elsewhere == nil {
		return q.refuse(dnsmessage.RCodeNameError), nil
	}
	return nil, &q
}

func (r *Resolver) elsewhere(ctx context.Context, q *query, msg []byte, stream bool) []byte {
	network := "udp"
	if stream {
		network = "tcp"
	}
	reply, err := r.Elsewhere(ctx, network, msg)
	switch {
	case errors.Is(err, ErrNoSuchName):
		return q.refuse(dnsmessage.RCodeNameError)
	case err != nil:
		return q.refuse(dnsmessage.RCodeServerFailure)
	}
	return reply
}

// Serve answers on both sockets until ctx ends or a socket fails, and closes
// them. It returns when all it began is done.
func (r *Resolver) Serve(ctx context.Context, udp *net.UDPConn, tcp net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = udp.Close()
		_ = tcp.Close()
	})
	defer stop()
	s := server{r: r, slots: make(chan struct{}, inFlight)}
	errs := make(chan error, 2)
	go func() { errs <- s.packets(ctx, udp); cancel() }()
	go func() { errs <- s.streams(ctx, tcp); cancel() }()
	err := errors.Join(<-errs, <-errs)
	s.begun.Wait()
	return err
}

type server struct {
	r     *Resolver
	slots chan struct{} // one for each query that waits
	begun sync.WaitGroup
}

// unlessOver returns what a socket failed with, unless it was to end.
func unlessOver(ctx context.Context, err error) error {
	over := ctx.Err() != nil || errors.Is(err, net.ErrClosed)
	if over {
		err = nil
	}
	return err
}

// packets answers over UDP. What we know is answered in turn; what others know
// must not keep that waiting.
func (s *server) packets(ctx context.Context, conn *net.UDPConn) error {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return unlessOver(ctx, err)
		}
		reply, q := s.r.known(buf[:n], false)
		if q == nil {
			if reply != nil {
				_, _ = conn.WriteToUDPAddrPort(reply, from) // a client that is gone needs none
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			_, _ = conn.WriteToUDPAddrPort(q.refuse(dnsmessage.RCodeServerFailure), from)
			continue
		}
		msg := append([]byte(nil), buf[:n]...)
		s.begun.Go(func() { s.forward(ctx, conn, from, q, msg) })
	}
}

func (s *server) forward(ctx context.Context, conn *net.UDPConn, from netip.AddrPort, q *query, msg []byte) {
	defer func() { <-s.slots }()
	if reply := s.r.elsewhere(ctx, q, msg, false); reply != nil {
		_, _ = conn.WriteToUDPAddrPort(reply, from)
	}
}

// streams answers over TCP.
func (s *server) streams(ctx context.Context, l net.Listener) error {
	conns := make(chan struct{}, maxConns)
	for {
		c, err := l.Accept()
		if err != nil {
			return unlessOver(ctx, err)
		}
		select {
		case conns <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		s.begun.Go(func() {
			defer func() { <-conns }()
			s.stream(ctx, c)
		})
	}
}

// stream answers the queries of one connection, one after the other.
func (s *server) stream(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer func() { _ = c.Close() }()
	for {
		if c.SetDeadline(time.Now().Add(idleConn)) != nil {
			return
		}
		msg, err := readStream(c)
		if err != nil {
			return
		}
		reply := s.r.Answer(ctx, msg, true)
		if reply == nil || writeStream(c, reply) != nil {
			return
		}
	}
}
