package shim_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/logs"
	"lade/internal/shim"
	"lade/test/kerneltest"
)

// 64 MiB go in and come out again, byte for byte.
func TestBulk(t *testing.T) {
	const size = 64 << 20
	onRuntimes(t, func(r *rig) {
		t := r.t
		for _, mux := range []bool{false, true} {
			cfg := r.config("exec cat")
			cfg.Stdin, cfg.StdinOnce, cfg.Log.None = true, true, true
			s, a := client(t, shim.Attach{Stdin: true, Stdout: true, Stderr: true, Mux: mux})
			c := run(t, r, cfg, a)
			start := time.Now()
			want := sha256.New()
			go func() {
				src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), want)
				_, _ = io.CopyBuffer(onlyWriter{s}, src, make([]byte, 256<<10))
				_ = s.CloseWrite()
			}()
			got := sha256.New()
			var n int64
			var err error
			if mux {
				n, err = demuxTo(got, s)
			} else {
				n, err = io.CopyBuffer(got, onlyReader{s}, make([]byte, 256<<10))
			}
			if err != nil || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("mux %v: %d bytes came, %v", mux, n, err)
			}
			t.Logf("mux %v: %v", mux, time.Since(start))
			if e := gone(t, c, cfg); e.Code != 0 {
				t.Errorf("exit %+v", e)
			}
		}
	})
}

type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

func demuxTo(w io.Writer, r io.Reader) (total int64, err error) {
	var h [8]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := io.CopyN(w, r, int64(h[4])<<24|int64(h[5])<<16|int64(h[6])<<8|int64(h[7]))
		total += n
		if err != nil {
			return total, err
		}
	}
}

func TestTerminal(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		cfg := r.config("")
		cfg.Terminal, cfg.Stdin, cfg.StdinOnce = true, true, true
		cfg.ConsoleWidth, cfg.ConsoleHeight = 91, 33
		r.size = &specs.Box{Width: 91, Height: 33}
		r.write(cfg, "stty size; stty -echo; echo ready; while read x; do stty size; echo \"<$x>\"; done; echo over")
		s, a := client(t, terminal)
		c := run(t, r, cfg, a)
		if got := s.until(t, "ready\r\n"); !strings.HasPrefix(got, "33 91\r\n") {
			t.Errorf("size: %q", got)
		}
		s.say(t, "hello\r")
		s.until(t, "<hello>\r\n")
		if err := c.Resize(t.Context(), "", 120, 40); err != nil {
			t.Fatal(err)
		}
		s.say(t, "again\r")
		if got := s.until(t, "<again>\r\n"); !strings.Contains(got, "40 120\r\n") {
			t.Errorf("after resize: %q", got)
		}

		// Detached in the middle of a line, the container goes on.
		s.say(t, "mine\x10x\x10\x11not mine\r")
		if got := s.all(t); got != "" {
			t.Errorf("after detaching: %q", got)
		}
		s2, a2 := client(t, shim.Attach{Stdin: true, Stdout: true, FromLog: true, DetachKeys: []byte("q")})
		if err := c.Attach(t.Context(), a2); err != nil {
			t.Fatal(err)
		}
		s2.say(t, "\r")
		if got := s2.until(t, "<mine\x10x>\r\n"); !strings.HasPrefix(got, "33 91\r\nready\r\n33 91\r\n<hello>\r\n") {
			t.Errorf("replayed: %q", got)
		}
		s2.say(t, "\x04") // end of file
		if got := s2.all(t); got != "over\r\n" {
			t.Errorf("at the end: %q", got)
		}
		if e := gone(t, c, cfg); e.Code != 0 {
			t.Errorf("exit %+v", e)
		}
		want := []string{"33 91\r", "ready\r", "33 91\r", "<hello>\r", "40 120\r", "<again>\r", "40 120\r", "<mine\x10x>\r", "over\r"}
		if diff := cmp.Diff(want, logged(t, cfg)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestExecTerminal(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		c := run(t, r, r.config("exec sleep 1000"))
		r.size = &specs.Box{Width: 70, Height: 20}
		x := r.exec(t, strings.Repeat("long", 16), true, "stty size; stty -echo; read x; stty size; echo $x; exit 4")
		x.Stdin, x.Width, x.Height = true, 70, 20
		s, a := client(t, terminal)
		x.Attach = []shim.Attach{a}
		if _, err := c.Exec(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		s.until(t, "20 70\r\n")
		if err := c.Resize(t.Context(), x.ID, 71, 21); err != nil {
			t.Fatal(err)
		}
		s.say(t, "typed\r")
		if got := s.all(t); got != "21 71\r\ntyped\r\n" && !strings.HasSuffix(got, "21 71\r\ntyped\r\n") {
			t.Errorf("got %q", got)
		}
		if e, err := c.ExecWait(t.Context(), x.ID); err != nil || e.Code != 4 {
			t.Errorf("exit %+v, %v", e, err)
		}
	})
}

// As with Docker: standard input that is given once ends with its client;
// otherwise the end of a client's input ends the client.
func TestEndOfInput(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("cat; echo end")
	cfg.Stdin = true
	c := run(t, r, cfg)
	for i := range 3 {
		s, a := client(t, interactive)
		if err := c.Attach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		s.say(t, fmt.Sprintln("client", i))
		s.until(t, fmt.Sprintln("client", i))
		_ = s.CloseWrite()
		if got := s.all(t); got != "" {
			t.Errorf("after the end of its input, a client got %q", got)
		}
	}
	s, a := client(t, interactive)
	if err := c.Attach(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseStdin(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if out, _ := demux(t, s.all(t)); out != "end\n" {
		t.Errorf("got %q", out)
	}
	gone(t, c, cfg)
	want := []string{"client 0", "client 1", "client 2", "end"}
	if diff := cmp.Diff(want, logged(t, cfg)); diff != "" {
		t.Error(diff)
	}
}

// What a client has sent before it left reaches a container that is slow to
// read.
func TestInputOfClientThatLeft(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("sleep 0.3; wc -c")
	cfg.Stdin, cfg.StdinOnce = true, true
	s, a := client(t, interactive)
	c := run(t, r, cfg, a)
	s.say(t, strings.Repeat("x", 190000))
	_ = s.Close()
	_ = a.File.Close()
	gone(t, c, cfg)
	if got := logged(t, cfg); len(got) != 1 || strings.TrimSpace(got[0]) != "190000" {
		t.Errorf("the container got %q bytes", got)
	}
}

// A client that does not read holds the container up; one that is gone does
// not, nor does it spoil anything for others.
func TestSlowClient(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("i=0; while [ $i -lt 40000 ]; do echo line $i of many, each of a few dozen bytes; i=$((i+1)); done")
	cfg.StartNow = false
	stuck, a := client(t, interactive)
	s, b := client(t, interactive)
	c := run(t, r, cfg, a, b)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		out, _ := io.ReadAll(s)
		got <- string(out)
	}()
	select {
	case <-c.Exited():
		t.Fatal("a client that does not read held nothing up")
	case <-time.After(500 * time.Millisecond):
	}
	if n := len(logged(t, cfg)); n > 20000 {
		t.Errorf("%d lines were printed meanwhile", n)
	}
	_ = stuck.Close()
	_ = a.File.Close()
	if e := gone(t, c, cfg); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	out, _ := demux(t, within(t, "the output", got))
	lines := strings.Split(out, "\n")
	if len(lines) != 40001 || lines[39999] != "line 39999 of many, each of a few dozen bytes" {
		t.Errorf("the other client got %d lines", len(lines)-1)
	}
	if n := len(logged(t, cfg)); n != 40000 {
		t.Errorf("%d lines are in the log", n)
	}
}

// What is not read when the container ends is there to be read afterwards.
func TestLateReader(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("head -c 60000 /dev/zero; exit 5")
	s, a := client(t, shim.Attach{Stdout: true})
	c := run(t, r, cfg, a)
	if e := gone(t, c, cfg); e.Code != 5 {
		t.Errorf("exit %+v", e)
	}
	_ = a.File.Close()
	if n := len(s.all(t)); n != 60000 {
		t.Errorf("%d bytes", n)
	}
}

func TestFromLog(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("seq 0 29999; printf 'begun '; read x; echo ended; seq 30000 30010")
	cfg.Stdin = true
	c := run(t, r, cfg)
	follower, err := logs.Open(cfg.Log.Dir, logs.ReadOptions{Tail: -1, Follow: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	for range 30000 {
		if _, err := follower.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var ss []session
	for range 3 {
		s, a := client(t, shim.Attach{Stdout: true, Stderr: true, FromLog: true, Mux: true, Stdin: true})
		if err := c.Attach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		ss = append(ss, s)
	}
	ss[0].until(t, "begun ")
	ss[0].say(t, "go\n")
	want := strings.Join(numbered(30000), "\n") + "\nbegun ended\n"
	for i := range 11 {
		want += fmt.Sprintln(30000 + i)
	}
	for _, s := range ss[1:] {
		if out, _ := demux(t, s.all(t)); out != want {
			t.Errorf("got %d bytes, want %d: ...%.100q", len(out), len(want), out[max(0, len(out)-100):])
		}
	}
}

// Clients that come and go in every ugly way leave nothing in the shim.
func TestAbortedAttaches(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("while :; do echo tick; sleep 0.01; done")
	cfg.Stdin = true
	c := run(t, r, cfg)
	fds := fmt.Sprintf("/proc/%d/fd", c.PID())
	count := func() int {
		es, err := os.ReadDir(fds)
		if err != nil {
			t.Fatal(err)
		}
		return len(es)
	}
	if _, err := c.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := count()
	for i := range 1000 {
		s, a := client(t, shim.Attach{Stdin: i%2 == 0, Stdout: i%3 != 0, Stderr: true, Mux: i%5 == 0, FromLog: i%7 == 0})
		switch i % 4 {
		case 0:
			_ = s.Close() // before it is attached
		case 1:
			s.say(t, "something unread")
		}
		if err := c.Attach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		_ = a.File.Close()
		if i%4 == 2 {
			s.say(t, "typed")
		}
		_ = s.Close()
	}
	kerneltest.Eventually(t, fmt.Sprintf("no clients, and %d descriptors as at first", before), func() bool {
		st, err := c.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.Clients == 0 && count() == before
	})
}

// A client that reads nothing does not keep the shim from leaving, and still
// gets all that was read from the container, in order.
func TestStuckClientAtTheEnd(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("seq 0 1000000")
	s, a := client(t, shim.Attach{Stdout: true})
	c := run(t, r, cfg, a)
	_ = a.File.Close()
	select {
	case <-c.Exited():
		t.Fatal("the client held nothing up")
	case <-time.After(300 * time.Millisecond):
	}
	begin := time.Now()
	if err := c.Signal(t.Context(), 9, "test"); err != nil {
		t.Fatal(err)
	}
	if e := gone(t, c, cfg); e.Code != 137 || time.Since(begin) > 5*time.Second {
		t.Errorf("exit %+v after %v", e, time.Since(begin))
	}
	got := s.all(t)
	lines := strings.Split(got, "\n")
	last := lines[len(lines)-1] // perhaps a part of one
	if diff := cmp.Diff(numbered(len(lines)-1), lines[:len(lines)-1]); diff != "" {
		t.Errorf("not in order: %.300s", diff)
	}
	in := logged(t, cfg)
	if len(in) < len(lines)-1 || last != "" && in[len(in)-1] != last {
		t.Errorf("the client got %d lines and %q, the log has %d", len(lines)-1, last, len(in))
	}
}
