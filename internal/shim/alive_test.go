package shim_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/scm"
	"lade/internal/shim"
)

// hasty is an engine that asks for a container and is killed before its shim
// has heard it. Its arguments are the shim's program, the Config, and whether to
// wait for the shim's greeting; it says the shim's process id, and asks when it
// is told to.
func hasty() int {
	var cfg shim.Config
	if err := json.Unmarshal([]byte(os.Args[2]), &cfg); err != nil {
		return 2
	}
	c, err := shim.Begin(os.Args[1], cfg, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if os.Args[3] == "true" {
		err = c.Ready(context.Background())
	}
	fmt.Println(c.PID(), err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nobody will wait for the answer
	_, _ = fmt.Scanln()
	if ours, theirs, err := scm.Pair(); err == nil && os.Args[4] == "true" {
		// More than the shim takes in at once, and with an answer.
		f := os.NewFile(uintptr(theirs), "client")
		_ = c.Attach(ctx, shim.Attach{File: f, Stdout: true, Buffered: make([]byte, 100<<10)})
		_, _ = f.Close(), syscall.Close(ours)
	}
	_, err = c.Create(ctx, nil)
	fmt.Println(err)
	select {}
}

// slowShim returns a shim's program that stands still at its very beginning,
// until the gate is written to.
func slowShim(tb testing.TB, shim string) (program, gate string) {
	tb.Helper()
	dir := tb.TempDir()
	program, gate = filepath.Join(dir, "slow-shim"), filepath.Join(dir, "gate")
	if out, err := exec.Command("mkfifo", gate).CombinedOutput(); err != nil {
		tb.Fatalf("mkfifo: %v %s", err, out)
	}
	text := fmt.Sprintf("#!/bin/sh\nread line <%s\nexec %s \"$@\"\n", gate, shim)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		tb.Fatal(err)
	}
	return program, gate
}

// haste is a run of hasty.
type haste struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// hurry starts an engine, up to where it would ask for a container. It returns
// the shim's process id.
func hurry(tb testing.TB, program string, cfg shim.Config, ready, attach bool) (*haste, int) {
	tb.Helper()
	arg, err := json.Marshal(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	h := &haste{t: tb, cmd: exec.Command(play(tb, "hasty"), program, string(arg), strconv.FormatBool(ready), strconv.FormatBool(attach))}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var pid int
	line, err := h.out.ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &pid); err != nil || scanErr != nil {
		tb.Fatalf("the engine says %q, %v", line, err)
	}
	return h, pid
}

// askAndDie asks for the container, and is killed.
func (h *haste) askAndDie() {
	h.t.Helper()
	if _, err := io.WriteString(h.in, "\n"); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.out.ReadString('\n'); err != nil {
		h.t.Fatal(err)
	}
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// A shim whose engine was killed while it was on its way is waited for: who
// took it for absent would remove the bundle under it. It finds that nobody
// wants the container any more, and leaves.
func TestShimOnItsWay(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("exit 3")
	program, gate := slowShim(t, r.shim)
	h, _ := hurry(t, program, cfg, false, false)
	h.askAndDie()

	if alive, err := shim.Alive(cfg.Bundle); err != nil || !alive {
		t.Errorf("a shim on its way is alive: %t, %v", alive, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := shim.Dial(short, cfg.Bundle); !errdefs.Is(err, errdefs.Unavailable) {
		t.Fatalf("dial: %v; want that it is not known", err)
	}
	if _, err := shim.Launch(t.Context(), r.shim, cfg, nil); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("a second shim: %v", err)
	}
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	// It may be met while it leaves.
	c, err := shim.Dial(t.Context(), cfg.Bundle)
	for err == nil {
		_ = c.Close()
		c, err = shim.Dial(t.Context(), cfg.Bundle)
	}
	if !errdefs.Is(err, errdefs.NotFound) {
		t.Fatal(err)
	}
	if alive, err := shim.Alive(cfg.Bundle); err != nil || alive {
		t.Errorf("a shim that has left is alive: %t, %v", alive, err)
	}
	if _, err := shim.ReadExit(cfg.ExitPath()); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("a container that nobody waited for has run: %v", err)
	}
}

// What an engine asked for before it was killed is taken up before the shim
// says to the next one how the container is: "fresh" would have it removed,
// while it comes into being. A shim that cannot answer takes up no more.
func TestLastWordsAreHeard(t *testing.T) {
	onRuntimes(t, func(r *rig) { lastWords(r, false) })
	lastWords(fakeRig(t), true)
}

func lastWords(r *rig, attach bool) {
	t := r.t
	t.Helper()
	cfg := r.config("read x; exit 3")
	cfg.Stdin = true
	h, pid := hurry(t, r.shim, cfg, true, attach)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// The next engine stands at the socket before the request is made.
	standing, err := net.Dial("unix", filepath.Join(cfg.Bundle, shim.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	defer standing.Close()
	next := make(chan *shim.Conn, 1)
	go func() {
		defer close(next)
		if c, err := shim.Dial(t.Context(), cfg.Bundle); err == nil {
			next <- c
		}
	}()
	h.askAndDie()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c := within(t, "the shim's greeting", next)
	if c == nil {
		t.Fatal("no shim is found")
	}
	defer c.Close()
	st, err := c.State(t.Context())
	for err == nil && st.Status == shim.StatusCreating {
		st, err = c.State(t.Context())
	}
	if attach {
		if err == nil {
			t.Fatalf("a container that nobody waits for is %s", st.Status)
		}
		within(t, "the shim's end", c.Done())
		return
	}
	if err != nil || st.Status != shim.StatusRunning {
		t.Fatalf("the container that was asked for is %s, %v", st.Status, err)
	}
	if err := c.CloseStdin(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if e := gone(t, c, cfg); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
}

// A shim that is killed takes along what makes its container: a runtime that
// goes on alone would make one that nobody knows of.
func TestRuntimeEndsWithItsShim(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("true")
	dir := t.TempDir()
	begun := filepath.Join(dir, "begun")
	if out, err := exec.Command("mkfifo", begun).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v %s", err, out)
	}
	cfg.Runtime = filepath.Join(dir, "runtime")
	// The pipe stays open for as long as the runtime lives.
	text := fmt.Sprintf("#!/bin/sh\nexec 9>%s\necho begun >&9\nkill -STOP $$\n", begun)
	if err := os.WriteFile(cfg.Runtime, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := shim.Launch(t.Context(), r.shim, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _, _ = c.Create(context.Background(), nil) }()
	f, err := os.Open(begun)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said := make([]byte, 100)
	if n, err := f.Read(said); err != nil || string(said[:n]) != "begun\n" {
		t.Fatalf("%q, %v", said[:n], err)
	}
	if err := syscall.Kill(c.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := f.Read(said); ended <- err }()
	if err := within(t, "the runtime's end", ended); err == nil {
		t.Error("the runtime goes on")
	}
	within(t, "the shim's end", c.Done())
}
