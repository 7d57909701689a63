package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Exchange asks servers elsewhere, over "udp" or "tcp", and returns the answer
// to a query as it came.
type Exchange func(ctx context.Context, network string, query []byte) ([]byte, error)

// Forwarder asks the servers that the host itself would ask.
type Forwarder struct {
	// Servers returns them, in the order in which they are to be asked. It is
	// called for each query, so that a change counts at once.
	Servers func() []netip.AddrPort
	// Dial connects to one; nil means from the host's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Patience is how long one server may take before the next is asked beside
	// it; 0 means a second. Clients themselves give up after five.
	Patience time.Duration
}

// ErrNoSuchName is what an Exchange returns that may ask nobody: what is not known
// does not exist.
var ErrNoSuchName = errors.New("no such name")

// errNoServers is what a query ends with where the host has none.
var errNoServers = errors.New("no name server is known: /etc/resolv.conf of the host names none")

// Exchange is of the type of that name. The first server that knows wins; one
// that is slow delays an answer, and does not prevent it.
func (f *Forwarder) Exchange(ctx context.Context, network string, msg []byte) ([]byte, error) {
	servers := f.Servers()
	if len(servers) == 0 {
		return nil, errNoServers
	}
	patience := f.Patience
	if patience == 0 {
		patience = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	type result struct {
		reply []byte
		err   error
	}
	results := make(chan result, len(servers))
	asked, answered := 0, 0
	ask := func() {
		server := servers[asked]
		asked++
		go func() {
			reply, err := f.ask(ctx, network, server, msg)
			results <- result{reply, err}
		}()
	}
	ask()
	next := time.NewTicker(patience)
	defer next.Stop()
	var (
		unsure []byte // an answer that another server may know better
		errs   []error
	)
	for answered < len(servers) {
		select {
		case r := <-results:
			answered++
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
			case final(r.reply):
				return r.reply, nil
			case unsure == nil:
				unsure = r.reply
			}
			if asked < len(servers) && answered == asked {
				ask()
				next.Reset(patience)
			}
		case <-next.C:
			if asked < len(servers) {
				ask()
			}
		case <-ctx.Done():
			answered = len(servers)
			errs = append(errs, ctx.Err())
		}
	}
	if unsure != nil {
		return unsure, nil
	}
	return nil, errors.Join(errs...)
}

// final reports whether an answer speaks of the name, and not of the trouble
// that the server has.
func final(reply []byte) bool {
	code := dnsmessage.RCode(reply[3] & 0xf)
	return code == dnsmessage.RCodeSuccess || code == dnsmessage.RCodeNameError
}

// ask asks one server, under an id of its own from a port of its own, so that
// nobody who did not see the query can answer it.
func (f *Forwarder) ask(ctx context.Context, network string, server netip.AddrPort, msg []byte) ([]byte, error) {
	dial := f.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, network, server.String())
	if err != nil {
		return nil, fmt.Errorf("ask name server %s: %w", server, err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	own := bytes.Clone(msg)
	id := uint16(rand.Uint32())
	binary.BigEndian.PutUint16(own, id)
	reply, err := roundTrip(conn, network == "tcp", own)
	if err != nil {
		return nil, fmt.Errorf("ask name server %s: %w", server, err)
	}
	copy(reply, msg[:2])
	return reply, nil
}

// roundTrip sends a query and waits for the answer to it; what is none is passed over.
func roundTrip(conn net.Conn, stream bool, msg []byte) ([]byte, error) {
	if stream {
		if err := writeStream(conn, msg); err != nil {
			return nil, err
		}
		reply, err := readStream(conn)
		if err == nil && !answers(reply, msg) {
			err = errors.New("the answer is to another question")
		}
		return reply, err
	}
	if _, err := conn.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, maxStream)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], msg) {
			return bytes.Clone(buf[:n]), nil
		}
	}
}

// answers reports whether reply is one to msg: its id, and the same question,
// whose letters a server may have changed in case.
func answers(reply, msg []byte) bool {
	if len(reply) < 12 || !bytes.Equal(reply[:2], msg[:2]) || reply[2]&0x80 == 0 {
		return false
	}
	a, okA := questionOf(reply)
	b, okB := questionOf(msg)
	if !okA {
		// A server that could not read the question need not repeat it.
		return !final(reply)
	}
	return okB && bytes.EqualFold(a.Name.Data[:a.Name.Length], b.Name.Data[:b.Name.Length]) && a.Type == b.Type && a.Class == b.Class
}

func questionOf(msg []byte) (dnsmessage.Question, bool) {
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil {
		return dnsmessage.Question{}, false
	}
	q, err := p.Question()
	return q, err == nil
}

// readStream reads one message of a TCP connection (RFC 1035, 4.2.2).
func readStream(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

func writeStream(w io.Writer, msg []byte) error {
	if len(msg) > maxStream {
		return fmt.Errorf("message of %d bytes is more than DNS allows", len(msg))
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(msg)+2), uint16(len(msg))), msg...))
	return err
}
