package sdbus

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Property is a property of a unit.
type Property struct {
	Name  string
	Value any // string, bool, int32, uint32, int64, uint64, float64, []byte, []uint32, []string, []Device
}

// Error is an error that the bus or systemd answered with.
type Error struct{ Name, Message string }

func (e *Error) Error() string { return e.Message + " (" + e.Name + ")" }

const (
	manager     = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
	managerAPI  = "org.freedesktop.systemd1.Manager"
	unitExists  = "org.freedesktop.systemd1.UnitExists"
	timeout     = 30 * time.Second
)

// Conn is a connection to systemd. It is for one goroutine.
type Conn struct {
	fd      int
	serial  uint32
	direct  bool // to systemd itself, without a bus between
	pending []*message
	buf     []byte
}

// Running reports whether systemd is the init of this machine.
func Running() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// Dial connects to the systemd of the machine, or with user to the user's.
func Dial(user bool) (*Conn, error) {
	var errs []error
	for _, a := range addresses(user) {
		c := &Conn{direct: a.direct}
		if err := c.dial(a.path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.path, err))
			continue
		}
		return c, nil
	}
	return nil, errdefs.Hint(fmt.Errorf("connect to systemd: %w", errors.Join(errs...)), "run without --systemd-cgroup where there is no systemd")
}

type address struct {
	path   string
	direct bool
}

// addresses returns where to look for systemd, in order.
func addresses(user bool) []address {
	env, bus, private := "DBUS_SYSTEM_BUS_ADDRESS", "/run/dbus/system_bus_socket", "/run/systemd/private"
	if user {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		env, bus, private = "DBUS_SESSION_BUS_ADDRESS", dir+"/bus", dir+"/systemd/private"
	}
	var out []address
	for a := range strings.SplitSeq(os.Getenv(env), ";") {
		if options, ok := strings.CutPrefix(a, "unix:"); ok {
			for o := range strings.SplitSeq(options, ",") {
				if path, ok := strings.CutPrefix(o, "path="); ok {
					out = append(out, address{path: path})
				} else if name, ok := strings.CutPrefix(o, "abstract="); ok {
					out = append(out, address{path: "@" + name})
				}
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	return []address{{path: bus}, {path: private, direct: true}}
}

func (c *Conn) dial(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.fd = fd
	limit := unix.NsecToTimeval(int64(timeout))
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
	}
	if err == nil {
		err = c.authenticate()
	}
	if err == nil && !c.direct {
		_, err = c.call(&call{to: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "Hello"})
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}

// authenticate says who we are, which the kernel tells the other side anyway.
func (c *Conn) authenticate() error {
	id := hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid())))
	if err := c.write([]byte("\x00AUTH EXTERNAL " + id + "\r\n")); err != nil {
		return err
	}
	for !bytes.Contains(c.buf, []byte("\r\n")) {
		if len(c.buf) > 4096 {
			return errMessage
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	line, rest, _ := bytes.Cut(c.buf, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("OK ")) {
		return fmt.Errorf("authenticate: refused: %q", line)
	}
	c.buf = bytes.Clone(rest)
	return c.write([]byte("BEGIN\r\n"))
}

// Close ends the connection.
func (c *Conn) Close() { _ = unix.Close(c.fd) }

func (c *Conn) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(c.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write to the bus: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// fill reads more into the buffer.
func (c *Conn) fill() error {
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(c.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return context.DeadlineExceeded
		case err != nil:
			return fmt.Errorf("read from the bus: %w", err)
		case n == 0:
			return errors.New("read from the bus: it has hung up")
		}
		c.buf = append(c.buf, b[:n]...)
		return nil
	}
}

// receive returns the next message.
func (c *Conn) receive() (*message, error) {
	need := 16
	for {
		if len(c.buf) >= 16 {
			var err error
			if need, err = headerLength(c.buf); err != nil {
				return nil, err
			}
		}
		if len(c.buf) >= need && need >= 16 && len(c.buf) >= 16 {
			m, err := parse(bytes.Clone(c.buf[:need]))
			c.buf = c.buf[need:]
			return m, err
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// call makes a call and returns its answer. What comes meanwhile is kept.
func (c *Conn) call(m *call) (*message, error) {
	c.serial++
	serial := c.serial
	if c.direct {
		m.to = "" // there is nobody else
	}
	if err := c.write(m.bytes(serial)); err != nil {
		return nil, err
	}
	for {
		r, err := c.receive()
		switch {
		case err != nil:
			return nil, err
		case r.kind == signal:
			c.pending = append(c.pending, r)
		case r.reply != serial:
		case r.kind == methodReturn:
			return r, nil
		case r.kind == methodError:
			e := &Error{Name: r.errorName}
			if strings.HasPrefix(r.signature, "s") {
				e.Message = r.body.str()
			}
			return nil, e
		}
	}
}

func (c *Conn) manage(member, signature string, body func(*encoder) error) (*message, error) {
	e := &encoder{}
	if body != nil {
		if err := body(e); err != nil {
			return nil, err
		}
	}
	return c.call(&call{to: manager, path: managerPath, iface: managerAPI, member: member, signature: signature, body: e.b})
}

// listen asks to be told of jobs that end.
func (c *Conn) listen() error {
	if !c.direct {
		e := &encoder{}
		e.str("type='signal',sender='" + manager + "',interface='" + managerAPI + "',member='JobRemoved'")
		_, err := c.call(&call{to: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "AddMatch", signature: "s", body: e.b})
		if err != nil {
			return err
		}
	}
	_, err := c.manage("Subscribe", "", nil)
	return err
}

// wait waits until a job has ended, and returns how.
func (c *Conn) wait(job string) (string, error) {
	for {
		var m *message
		if len(c.pending) > 0 {
			m, c.pending = c.pending[0], c.pending[1:]
		} else {
			var err error
			if m, err = c.receive(); err != nil {
				return "", err
			}
		}
		if m.kind != signal || m.member != "JobRemoved" || m.signature != "uoss" {
			continue
		}
		m.body.u32()
		path := m.body.str()
		m.body.str() // the unit
		if result := m.body.str(); path == job && !m.body.bad {
			return result, nil
		}
	}
}

func (e *encoder) properties(list []Property) error {
	var err error
	e.array(8, func() {
		for _, p := range list {
			e.align(8)
			e.str(p.Name)
			if err2 := e.variant(p.Value); err2 != nil && err == nil {
				err = fmt.Errorf("property %s: %w", p.Name, err2)
			}
		}
	})
	return err
}
