package shim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/scm"
	"lade/internal/logs"
	"lade/internal/shim"
	"lade/internal/shim/wire"
	"lade/test/kerneltest"
)

// engine is the part of the test binary that is killed: it launches, attaches
// and asks, until then. Its arguments are the shim's program and the Config.
func engine() int {
	var cfg shim.Config
	if err := json.Unmarshal([]byte(os.Args[2]), &cfg); err != nil {
		return 2
	}
	ctx := context.Background()
	c, err := shim.Dial(ctx, cfg.Bundle)
	if errdefs.Is(err, errdefs.NotFound) {
		if c, err = shim.Launch(ctx, os.Args[1], cfg, nil); err == nil {
			_, err = c.Create(ctx, nil)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	for {
		ours, theirs, err := scm.Pair()
		if err != nil {
			return 1
		}
		f := os.NewFile(uintptr(theirs), "client")
		_ = c.Attach(ctx, shim.Attach{File: f, Stdout: true, Mux: true})
		_ = f.Close()
		b := make([]byte, 100000)
		_, _ = syscall.Read(ours, b)
		_ = syscall.Close(ours)
		_, _ = c.State(ctx)
	}
}

// The engine is killed again and again while the container prints numbered
// lines and the log is followed: nothing is lost, nothing comes twice.
func TestEngineIsKilled(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("")
	stop := filepath.Join(cfg.Bundle, "stop")
	r.write(cfg, strings.ReplaceAll("i=0; while [ ! -e STOP ]; do echo $i; i=$((i+1)); done; exit 9", "STOP", stop))
	arg, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(cfg.Log.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	follower, err := logs.Open(cfg.Log.Dir, logs.ReadOptions{Tail: -1, Follow: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	lines := make(chan int, 1)
	go func() {
		n := 0
		for ; ; n++ {
			e, err := follower.Next(context.Background())
			if err != nil {
				break
			}
			if string(e.Data) != strconv.Itoa(n) {
				t.Errorf("line %d is %q", n, e.Data)
				break
			}
		}
		lines <- n
	}()
	program := play(t, "engine")
	for i := range 20 {
		cmd := exec.CommandContext(t.Context(), program, r.shim, string(arg))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("engine %d says %q", i, line)
		}
		time.AfterFunc(time.Duration(rand.IntN(20000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
	}
	c, err := shim.Dial(t.Context(), cfg.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := gone(t, c, cfg); e.Code != 9 {
		t.Errorf("exit %+v", e)
	}
	n := within(t, "the log's end", lines)
	if got := len(logged(t, cfg)); n == 0 || got != n {
		t.Errorf("%d lines were followed, %d are in the log", n, got)
	}
	t.Logf("%d lines", n)
}

// The shim is killed: the container goes on, and nobody claims to know how it
// ended.
func TestShimIsKilled(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		for range 3 {
			cfg := r.config("i=0; while [ $i -lt 5000 ]; do echo $i; i=$((i+1)); done 2>/dev/null; exec sleep 1000")
			c, err := shim.Launch(t.Context(), r.shim, cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := c.Create(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { _ = syscall.Kill(c.PID(), syscall.SIGKILL) })
			within(t, "the shim's end", c.Done())
			if _, err := c.State(t.Context()); !errdefs.Is(err, errdefs.Unavailable) {
				t.Errorf("ask a dead shim: %v", err)
			}
			if _, err := shim.ReadExit(cfg.ExitPath()); !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("exit record: %v", err)
			}
			if _, err := shim.Dial(t.Context(), cfg.Bundle); !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("dial a dead shim: %v", err)
			}
			got := logged(t, cfg)
			if diff := cmp.Diff(numbered(len(got)), got); diff != "" {
				t.Error(diff)
			}
			_ = c.Close()
			out, err := exec.CommandContext(t.Context(), r.runtime, "--root", r.root, "delete", "--force", cfg.ID).CombinedOutput()
			if err != nil {
				t.Errorf("delete: %v: %s", err, out)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL) // where the runtime isolates nothing
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	kerneltest.Root(t)
	onRuntimes(t, func(r *rig) {
		t := r.t
		if r.rootfs == "" {
			return // the fake has no cgroups
		}
		cfg := r.config("")
		limit := int64(20 << 20)
		spec := specs.Spec{}
		b, err := os.ReadFile(filepath.Join(cfg.Bundle, "config.json"))
		if err == nil {
			err = json.Unmarshal(b, &spec)
		}
		if err != nil {
			t.Fatal(err)
		}
		spec.Process.Args = []string{"sh", "-c", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"}
		spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
		r.save(cfg, spec)
		c := run(t, r, cfg)
		e := gone(t, c, cfg)
		if e.Code != 137 || !e.OOMKilled || e.KilledBy != "" {
			t.Errorf("exit %+v", e)
		}
		if e.PeakMemory < limit/2 || e.PeakMemory > limit {
			t.Errorf("peak of %d bytes with a limit of %d", e.PeakMemory, limit)
		}
		cfg = r.config("exit 1")
		if e := gone(t, run(t, r, cfg), cfg); e.OOMKilled || e.PeakMemory == 0 {
			t.Errorf("exit %+v", e)
		}
	})
}

// A full disk costs log lines, which are counted, and nothing else.
func TestDiskIsFull(t *testing.T) {
	kerneltest.Root(t)
	r := fakeRig(t)
	cfg := r.config("seq 0 99999; echo marker; read x; echo after; echo last")
	cfg.Stdin = true
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(small, unix.MNT_DETACH) }()
	cfg.Log.Dir = filepath.Join(small, "log")
	s, a := client(t, interactive)
	c := run(t, r, cfg, a)
	out, _ := demux(t, s.until(t, "marker\n"))
	if n := strings.Count(out, "\n"); n != 100001 {
		t.Errorf("the client got %d lines", n)
	}
	st, err := c.State(t.Context())
	if err != nil || st.Dropped < 1000 {
		t.Errorf("dropped %d, %v", st.Dropped, err)
	}
	got := logged(t, cfg)
	if n := uint64(len(got)) + st.Dropped; n != 100001 {
		t.Errorf("%d lines in the log and %d dropped, of 100001", len(got), st.Dropped)
	}
	// Room again: the log goes on, and tells a reader what is missing.
	if err := unix.Mount("", small, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	s.say(t, "go\n")
	gone(t, c, cfg)
	rd, err := logs.Open(cfg.Log.Dir, logs.ReadOptions{Tail: -1, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	var last string
	for {
		e, err := rd.Next(t.Context())
		if err != nil {
			break
		}
		last = string(e.Data)
	}
	if last != "last" || rd.Lost() != st.Dropped {
		t.Errorf("the log ends with %q and tells of %d lost lines, of %d", last, rd.Lost(), st.Dropped)
	}
}

// A container runs, and its end is known, when there was never any room.
func TestDiskIsFullFromTheStart(t *testing.T) {
	kerneltest.Root(t)
	r := fakeRig(t)
	cfg := r.config("echo unheard; exit 3")
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(small, unix.MNT_DETACH) }()
	if err := os.WriteFile(filepath.Join(small, "full"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Log.Dir = filepath.Join(small, "log")
	cfg.ExitFile = filepath.Join(small, "exit.json")
	s, a := client(t, shim.Attach{Stdout: true})
	c, err := shim.Launch(t.Context(), r.shim, cfg, []shim.Attach{a})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := s.all(t); got != "unheard\n" {
		t.Errorf("the client got %q", got)
	}
	within(t, "the shim's end", c.Done())
	if e, err := shim.LastExit(cfg.Bundle, cfg.ExitFile); err != nil || e.Code != 3 {
		t.Errorf("exit %+v, %v", e, err)
	}
	_ = c.Close()
}

// Orphans of the container come to the shim, which reaps them.
func TestOrphans(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("")
	gate := filepath.Join(cfg.Bundle, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	r.write(cfg, "i=0; while [ $i -lt 20 ]; do (sh -c 'read x <"+gate+"' &) ; i=$((i+1)); done; echo begun; read x")
	cfg.Stdin = true
	s, a := client(t, interactive)
	c := run(t, r, cfg, a)
	s.until(t, "begun")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.PID(), c.PID()))
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var orphans []int
	for word := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := pidfd.Open(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if pid != st.PID {
			orphans = append(orphans, fd)
		}
	}
	w, err := os.OpenFile(gate, os.O_RDWR, 0) // for both: no reader is missed that is yet to come
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString(strings.Repeat("\n", len(orphans))); err != nil || len(orphans) != 20 {
		t.Fatalf("%d orphans, %v", len(orphans), err)
	}
	for _, fd := range orphans {
		if err := await(fd, unix.POLLHUP); err != nil {
			t.Error(err)
		}
	}
}

// Who talks nonsense loses its connection, and nobody else's suffers.
func TestGarbage(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("exec sleep 1000")
	c := run(t, r, cfg)
	frame := func(k wire.Kind, f wire.Fields) []byte {
		b, err := wire.Message{Kind: k, Request: 7, Fields: f}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var files wire.Fields
	files.AddUint(wire.TagFiles, 3)
	for name, b := range map[string][]byte{
		"text":               []byte("GET / HTTP/1.1\r\nHost: shim\r\n\r\n"),
		"endless frame":      {0xff, 0xff, 0xff, 0xff, 1},
		"empty frame":        {0, 0, 0, 0},
		"field that ends":    {0, 0, 0, 8, 8, 0, 0, 0, 1, 0, 1, 0},
		"field out of frame": frame(wire.State, wire.Fields{0, 1, 0xff, 0xff, 0xff, 0xff}),
		"missing files":      frame(wire.Attach, files),
	} {
		fd, err := scm.Dial(filepath.Join(cfg.Bundle, shim.SocketName))
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "garbage")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		_, _ = conn.Write(b)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: the connection stays open: %v", name, err)
		}
		_ = conn.Close()
		if _, err := c.State(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// A request of a later version is refused, and the connection goes on.
	fd, err := scm.Dial(filepath.Join(cfg.Bundle, shim.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var later wire.Fields
	later.AddString(60000, "a tag of a later version")
	if _, err := scm.Send(fd, append(frame(60, nil), frame(wire.State, later)...)); err != nil {
		t.Fatal(err)
	}
	var d wire.Decoder
	var kinds []wire.Kind
	for len(kinds) < 3 {
		b := make([]byte, 4096)
		n, err := unix.Read(fd, b)
		if err != nil || n == 0 {
			t.Fatalf("the connection ended after %v: %v", kinds, err)
		}
		d.Feed(b[:n])
		for {
			m, ok, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			kinds = append(kinds, m.Kind)
		}
	}
	if diff := cmp.Diff([]wire.Kind{wire.Hello, wire.Failed, wire.OK}, kinds); diff != "" {
		t.Error(diff)
	}
}

// The bundle may lie deeper than a socket's address is long.
func TestLongPath(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("")
	deep := filepath.Join(cfg.Bundle, strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Bundle, cfg.Terminal = deep, true
	r.write(cfg, "tty; read x")
	s, a := client(t, terminal)
	c := run(t, r, cfg, a)
	s.until(t, "/dev/pts/")
	d, err := shim.Dial(t.Context(), cfg.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if d.PID() != c.PID() {
		t.Errorf("shims %d and %d", d.PID(), c.PID())
	}
	_ = d.Close()
}

// Clients over TCP leave in more ways than those of Unix sockets.
func TestTCPClients(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("cat; echo end")
	cfg.Stdin, cfg.StdinOnce = true, true
	cfg.StartNow = false
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connect := func() (*net.TCPConn, shim.Attach) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		d, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		a := interactive
		if a.File, err = d.(*net.TCPConn).File(); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.TCPConn), a
	}
	watcher, wa := connect()
	wa.Stdin = false
	aborted, aa := connect()
	aa.Stdin = false
	writer, ra := connect()
	c := run(t, r, cfg, wa, aa, ra)
	for _, a := range []shim.Attach{wa, aa, ra} {
		_ = a.File.Close()
	}
	_ = aborted.SetLinger(0)
	_ = aborted.Close() // with a reset
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(writer, "to be echoed\n"); err != nil {
		t.Fatal(err)
	}
	_ = writer.CloseWrite()
	for _, conn := range []*net.TCPConn{writer, watcher} {
		b, err := io.ReadAll(conn)
		out, _ := demux(t, string(b))
		if err != nil || out != "to be echoed\nend\n" {
			t.Errorf("got %q, %v", out, err)
		}
	}
	if e := gone(t, c, cfg); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}
