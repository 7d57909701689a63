package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

func offer(t *testing.T) (*Offer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	o, err := NewOffer(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o, path
}

// open returns a file that can be told from others.
func open(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// TestHandover gives a socket and an answer, and waits for the follower.
func TestHandover(t *testing.T) {
	o, path := offer(t)
	errs := make(chan error, 1)
	client, conn, err := socketPair(t)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		s := <-o.Asked()
		if s.PID != os.Getpid() || s.Program != "laded 2" || s.Root != "/data" {
			t.Errorf("asked by %+v", s)
		}
		errs <- errors.Join(s.Listener(open(t, "socket"), "/name"), s.Answer(http.MethodGet, "/logs", conn), s.All(), s.Await(context.Background()), s.Close())
	}()
	taken, err := Ask(path, "laded 2", "/data")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if text, err := io.ReadAll(taken.Listener); string(text) != "socket" || err != nil || taken.Path != "/name" {
		t.Errorf("listener %q %q, %v", text, taken.Path, err)
	}
	if len(taken.Answers) != 1 || taken.Answers[0].Method != http.MethodGet || taken.Answers[0].Target != "/logs" {
		t.Fatalf("answers %+v", taken.Answers)
	}
	if _, err := taken.Answers[0].Conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := client.Read(buf); string(buf[:n]) != "hello" {
		t.Errorf("the client got %q, %v", buf[:n], err)
	}
	if err := taken.Serving(); err != nil {
		t.Error(err)
	}
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

// socketPair returns a connection, its other end as a file.
func socketPair(t *testing.T) (net.Conn, *os.File, error) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "p"), Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	c, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	far, err := l.AcceptUnix()
	if err != nil {
		return nil, nil, err
	}
	defer far.Close()
	f, err := far.File()
	if err == nil {
		t.Cleanup(func() { _ = f.Close() })
	}
	return c, f, err
}

// TestFollowerIsGone checks that the end of a follower is seen.
func TestFollowerIsGone(t *testing.T) {
	o, path := offer(t)
	go func() {
		if taken, err := Ask(path, "laded", "/"); err == nil {
			_ = taken.Close()
		}
	}()
	s := <-o.Asked()
	if err := errors.Join(s.Listener(open(t, "x"), ""), s.All()); err != nil {
		t.Fatal(err)
	}
	if err := s.Await(t.Context()); err == nil || !strings.Contains(err.Error(), "wait until process") {
		t.Errorf("await: %v", err)
	}
	_ = s.Close()
}

// TestPredecessorIsGone checks that one that dies while it gives is an error, and
// that one that refuses says why.
func TestPredecessorIsGone(t *testing.T) {
	o, path := offer(t)
	go func() {
		s := <-o.Asked()
		_ = s.Listener(open(t, "x"), "")
		_ = s.Close()
		(<-o.Asked()).Refuse("not today")
		s = <-o.Asked()
		_ = s.All()
	}()
	if _, err := Ask(path, "laded", "/"); err == nil {
		t.Error("half a handover was taken for a whole one")
	}
	if _, err := Ask(path, "laded", "/"); !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "not today") {
		t.Errorf("refused: %v", err)
	}
	if _, err := Ask(path, "laded", "/"); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("without a socket: %v", err)
	}
	if _, err := Ask(filepath.Join(t.TempDir(), "none"), "laded", "/"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestStrangers checks that what is no follower is not taken for one.
func TestStrangers(t *testing.T) {
	o, path := offer(t)
	for _, text := range []string{"", "{", `{"type":"serving"}`, strings.Repeat("x", 100000)} {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil {
			t.Errorf("%.20q is answered with %d bytes, %v", text, n, err)
		}
		_ = c.Close()
	}
	select {
	case s := <-o.Asked():
		t.Errorf("a stranger follows: %+v", s)
	default:
	}
}
