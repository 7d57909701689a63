package forward

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"lade/internal/linux/dgram"
	"lade/internal/logs"
)

// syslog sends lines to a syslog daemon. The formats are those that Docker's
// driver has: the BSD one (RFC 3164) and its local form without a host's name,
// and RFC 5424.
type syslog struct {
	c       Config
	socket  *dgram.Socket
	pid     int
	dropped uint64
}

// The local sockets that daemons listen on, in the order in which they are tried.
const localSockets = "/dev/log /var/run/syslog /var/run/log"

func newSyslog(c Config) (*syslog, error) {
	s := &syslog{c: c, pid: os.Getpid()}
	targets := []dgram.Target{{Network: c.Network, Address: c.Address}}
	if c.Network == "" {
		targets = nil
		for path := range strings.FieldsSeq(localSockets) {
			targets = append(targets, dgram.Target{Network: "unixgram", Address: path}, dgram.Target{Network: "unix", Address: path})
		}
	}
	if c.Network == "unix" {
		// As Docker's driver, whichever kind of socket is there.
		targets = append(targets, dgram.Target{Network: "unixgram", Address: c.Address})
	}
	var err error
	if s.socket, err = dgram.New(targets, retryDelay); err != nil {
		return nil, fmt.Errorf("log to syslog: %w", err)
	}
	return s, nil
}

// Line implements Driver.
func (s *syslog) Line(e logs.Entry) {
	if !s.socket.Send(s.format(e)) {
		s.dropped++
	}
}

// local reports whether the daemon is on this machine: it knows the name.
func (s *syslog) local() bool { return s.c.Network == "" || strings.HasPrefix(s.c.Network, "unix") }

// format returns a message, framed where the connection is a stream.
func (s *syslog) format(e logs.Entry) []byte {
	var b bytes.Buffer
	pri := s.c.Facility<<3 | priority(e.Stream)
	host, tag := token(s.c.Hostname), token(s.c.Tag)
	switch {
	case s.c.Format == "rfc5424" || s.c.Format == "rfc5424micro":
		at := time.RFC3339
		if s.c.Format == "rfc5424micro" {
			at = "2006-01-02T15:04:05.000000Z07:00"
		}
		fmt.Fprintf(&b, "<%d>1 %s %s %s %d %s - ", pri, e.Time.Format(at), host, tag, s.pid, tag)
	case s.c.Format == "rfc3164":
		fmt.Fprintf(&b, "<%d>%s %s %s[%d]: ", pri, e.Time.Format(time.Stamp), host, tag, s.pid)
	case s.local():
		fmt.Fprintf(&b, "<%d>%s %s[%d]: ", pri, e.Time.Format(time.Stamp), tag, s.pid)
	default:
		fmt.Fprintf(&b, "<%d>%s %s %s[%d]: ", pri, e.Time.Format(time.RFC3339), host, tag, s.pid)
	}
	b.Write(e.Data)
	b.WriteByte('\n')
	if s.c.Network == "tcp" && strings.HasPrefix(s.c.Format, "rfc5424") {
		// The message's length in front (RFC 6587, 3.4.1): lines may hold anything.
		return append(strconv.AppendInt(nil, int64(b.Len()), 10), append([]byte(" "), b.Bytes()...)...)
	}
	return b.Bytes()
}

// token returns what may stand as one word in a header.
func token(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}

// Dropped implements Driver.
func (s *syslog) Dropped() uint64 { return s.dropped + s.socket.Lost() }

// Close implements Driver.
func (s *syslog) Close() { s.socket.Close() }
