// Package dns is the resolver that a container in a network finds at its name
// server's address. It answers for the names of the networks that the container
// is in, and passes on what it does not know to the servers of the host, as
// bytes: what it does not have to read, it does not read.
//
// A Table holds the names of all networks; a View is what one container sees of
// it; a Resolver answers from a view, and a Forwarder asks elsewhere.
package dns

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Names is what a resolver knows itself.
type Names interface {
	// Addresses returns the addresses of a name, which is in lower case and has
	// no final dot, and whether there is such a name. A name may have no address.
	Addresses(name string) (addrs []netip.Addr, found bool)
	// Name returns the name of an address, without a final dot.
	Name(addr netip.Addr) (name string, found bool)
}

const (
	// ttl of our own answers, in seconds. An address is another container's a
	// moment after its own has gone, and asking again costs 50 µs.
	ttl = 0
	// minPayload is the largest answer over UDP that every client takes
	// (RFC 1035, 4.2.1), maxPayload the largest that we send to one that says it
	// takes more (RFC 6891, 6.2.3).
	minPayload = 512
	maxPayload = 4096
	// maxStream is the largest message over TCP.
	maxStream = 65535
)

// query is what we need to know of one.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	edns     bool // the client speaks EDNS
	limit    int  // bytes that it takes in an answer
}

// parse reads a message. Where it cannot be answered as asked, it returns the
// code to answer with; where it cannot be answered at all, ok is false: it is
// no query, or has no header.
func parse(msg []byte, stream bool) (q query, code dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.Response {
		return q, 0, false
	}
	q.header, q.limit = h, minPayload
	if stream {
		q.limit = maxStream
	}
	if h.OpCode != 0 {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	if q.question, err = p.Question(); err != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, dnsmessage.RCodeFormatError, true
	}
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return q, dnsmessage.RCodeFormatError, true
		}
		if h.Type == dnsmessage.TypeOPT {
			q.edns = true
			if !stream {
				q.limit = min(max(int(h.Class), minPayload), maxPayload)
			}
		}
		if p.SkipAdditional() != nil {
			return q, dnsmessage.RCodeFormatError, true
		}
	}
	if q.question.Class != dnsmessage.ClassINET {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	return q, dnsmessage.RCodeSuccess, true
}

// name returns the question's name as Names wants it.
func (q *query) name() string {
	return strings.ToLower(strings.TrimSuffix(q.question.Name.String(), "."))
}

// local answers from names. ok is false where they do not know.
func (q *query) local(names Names) (reply []byte, ok bool) {
	name := q.name()
	if addr, isPTR := reverse(name); isPTR && q.question.Type == dnsmessage.TypePTR {
		target, found := names.Name(addr)
		if !found {
			return nil, false
		}
		n, err := dnsmessage.NewName(target + ".")
		if err != nil {
			return nil, false
		}
		return q.reply(dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
			return b.PTRResource(h, dnsmessage.PTRResource{PTR: n})
		}, 1), true
	}
	addrs, found := names.Addresses(name)
	if !found {
		return nil, false
	}
	// A name that is there and has nothing of this type is an empty answer, not
	// the end of the search: no other server knows more of our names.
	var of []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() && q.question.Type == dnsmessage.TypeA || a.Is6() && q.question.Type == dnsmessage.TypeAAAA {
			of = append(of, a)
		}
	}
	// Each answer begins with another one, so that clients which take the first
	// spread over all.
	if len(of) > 1 {
		n := rand.IntN(len(of))
		of = append(of[n:len(of):len(of)], of[:n]...)
	}
	i := 0
	return q.reply(dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder, h dnsmessage.ResourceHeader) error {
		a := of[i]
		i++
		if a.Is4() {
			return b.AResource(h, dnsmessage.AResource{A: a.As4()})
		}
		return b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.As16()})
	}, len(of)), true
}

// reply builds an answer of up to n resources, each added by add, as many as
// the client takes; it is told when that is not all.
func (q *query) reply(code dnsmessage.RCode, add func(*dnsmessage.Builder, dnsmessage.ResourceHeader) error, n int) []byte {
	const (
		optSize = 11 // of our OPT record, which ends the message
		rrSize  = 12 // of an answer's name (a pointer), type, class, ttl, length
	)
	h := dnsmessage.Header{
		ID: q.header.ID, Response: true, RCode: code, Authoritative: n > 0,
		RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
	}
	size := 12 + int(q.question.Name.Length) + 6 + optSize
	each := rrSize + 16
	if q.question.Type == dnsmessage.TypeA {
		each = rrSize + 4
	}
	if q.question.Type == dnsmessage.TypePTR {
		each = 0 // one always fits: a name is at most 255 bytes
	}
	if fit := (q.limit - size) / max(each, 1); n > fit {
		n, h.Truncated = fit, true
	}
	b := dnsmessage.NewBuilder(make([]byte, 0, minPayload), h)
	b.EnableCompression()
	err := b.StartQuestions()
	if err == nil && q.question.Name.Length > 0 {
		err = b.Question(q.question)
	}
	if err == nil {
		err = b.StartAnswers()
	}
	rh := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	for range n {
		if err == nil {
			err = add(&b, rh)
		}
	}
	if err == nil && q.edns {
		err = b.StartAdditionals()
		var opt dnsmessage.ResourceHeader
		if err == nil {
			err = opt.SetEDNS0(maxPayload, dnsmessage.RCodeSuccess, false)
		}
		if err == nil {
			err = b.OPTResource(opt, dnsmessage.OPTResource{})
		}
	}
	if err != nil {
		return nil
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}

// refuse answers with nothing but a code.
func (q *query) refuse(code dnsmessage.RCode) []byte { return q.reply(code, nil, 0) }

// reverse returns the address that a name of in-addr.arpa or ip6.arpa stands for.
func reverse(name string) (netip.Addr, bool) {
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(s, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		labels[0], labels[1], labels[2], labels[3] = labels[3], labels[2], labels[1], labels[0]
		a, err := netip.ParseAddr(strings.Join(labels, "."))
		return a, err == nil
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	var text []byte
	for i := 62; i >= 0; i -= 2 {
		if text = append(text, s[i]); len(text)%5 == 4 && i > 0 {
			text = append(text, ':')
		}
		if i > 0 && s[i-1] != '.' {
			return netip.Addr{}, false
		}
	}
	a, err := netip.ParseAddr(string(text))
	return a, err == nil && a.Is6()
}
