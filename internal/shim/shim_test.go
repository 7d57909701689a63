package shim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/shim"
)

func TestRunToTheEnd(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		cfg := r.config("echo out; echo err >&2; printf tail; exit 7")
		s, a := client(t, shim.Attach{Stdout: true, Stderr: true, Mux: true})
		before := time.Now()
		c := run(t, r, cfg, a)
		e := gone(t, c, cfg)
		if e.Code != 7 || e.Signal != 0 || e.Unknown || e.KilledBy != "" {
			t.Errorf("exit %+v", e)
		}
		if e.StartedAt.Before(before) || e.ExitedAt.Before(e.StartedAt) || e.ExitedAt.After(time.Now()) {
			t.Errorf("times %v, %v", e.StartedAt, e.ExitedAt)
		}
		out, err := demux(t, s.all(t))
		if out != "out\ntail" || err != "err\n" {
			t.Errorf("client got %q and %q", out, err)
		}
		got := logged(t, cfg)
		if len(got) != 3 || !strings.Contains(strings.Join(got, " "), "e:err") {
			t.Errorf("log: %q", got)
		}
		if _, err := shim.Dial(t.Context(), cfg.Bundle); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("dial after the end: %v", err)
		}
		if es, _ := os.ReadDir(r.root); len(es) != 0 {
			t.Errorf("the runtime still has %v", es)
		}
	})
}

func TestCreateThenStart(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		cfg := r.config("echo started; exec sleep 1000")
		cfg.StartNow = false
		c := run(t, r, cfg)
		st, err := c.State(t.Context())
		if err != nil || st.Status != shim.StatusCreated || st.PID == 0 {
			t.Fatalf("state %+v, %v", st, err)
		}
		if len(logged(t, cfg)) != 0 {
			t.Error("it runs before it was started")
		}
		if _, err := c.Create(t.Context(), nil); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("create again: %v", err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("start again: %v", err)
		}
		// A second connection, as of a new engine, sees and rules the same.
		d, err := shim.Dial(t.Context(), cfg.Bundle)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if st, err := d.State(t.Context()); err != nil || st.Status != shim.StatusRunning {
			t.Errorf("state %+v, %v", st, err)
		}
		if err := d.Signal(t.Context(), 9, "the test"); err != nil {
			t.Fatal(err)
		}
		within(t, "exited", d.Exited())
		e := gone(t, c, cfg)
		within(t, "done", d.Done())
		if e.Code != 137 || e.Signal != 9 || e.KilledBy != "the test" {
			t.Errorf("exit %+v", e)
		}
		if x, ok := d.Exit(); !ok || !cmp.Equal(x, e) {
			t.Errorf("announced %+v, recorded %+v", x, e)
		}
	})
}

func TestCreateFails(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		for _, now := range []bool{true, false} {
			cfg := r.config("")
			cfg.StartNow = now
			r.writeArgs(cfg, "no-such-program")
			s, a := client(t, interactive)
			c := launch(t, r, cfg, a)
			_, err := c.Create(t.Context(), nil)
			if err == nil {
				err = c.Start(t.Context())
			}
			if !errdefs.Is(err, errdefs.Invalid) || !saysNotFound(err) {
				t.Errorf("error %v", err)
			}
			within(t, "the shim's end", c.Done())
			// The connection is left to who handed it over, to say why.
			if _, err := a.File.WriteString("sorry"); err != nil {
				t.Error(err)
			}
			_ = a.File.Close()
			if got := s.all(t); got != "sorry" {
				t.Errorf("client got %q", got)
			}
			if _, err := shim.ReadExit(cfg.ExitPath()); !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("exit record: %v", err)
			}
			if es, _ := os.ReadDir(r.root); len(es) != 0 {
				t.Errorf("the runtime still has %v", es)
			}
		}
	})
}

func TestLaunchFails(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("true")
	if _, err := shim.Launch(t.Context(), "/no/such/shim", cfg, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	cfg.Log.Dir = filepath.Join(cfg.Bundle, "config.json", "log")
	if _, err := shim.Launch(t.Context(), r.shim, cfg, nil); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("no log: %v", err)
	}
	cfg.ID = ""
	if _, err := shim.Launch(t.Context(), r.shim, cfg, nil); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("no id: %v", err)
	}
	cfg = r.config("true")
	cfg.Runtime = "/no/such/runtime"
	c := launch(t, r, cfg)
	if _, err := c.Create(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "/no/such/runtime") {
		t.Errorf("no runtime: %v", err)
	}
	within(t, "the shim's end", c.Done())
}

// A shim whose engine dies before it has asked for anything leaves.
func TestUnusedShimLeaves(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("true")
	c, err := shim.Launch(t.Context(), r.shim, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := shim.Dial(t.Context(), cfg.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if st, err := d.State(t.Context()); err != nil || st.Status != shim.StatusFresh {
		t.Errorf("with a connection left: %+v, %v", st, err)
	}
	fd, err := pidfd.Open(d.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = d.Close()
	if err := await(fd, unix.POLLIN); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.Dial(t.Context(), cfg.Bundle); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("dial a shim that has left: %v", err)
	}
}

func TestExec(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		cfg := r.config("exec sleep 1000")
		c := run(t, r, cfg)
		x := r.exec(t, "one", false, "cat; echo problem >&2; exit 3")
		x.Stdin = true
		s, a := client(t, interactive)
		a.Buffered = []byte("first ")
		x.Attach = []shim.Attach{a}
		if pid, err := c.Exec(t.Context(), x); err != nil || pid <= 0 {
			t.Fatalf("exec: pid %d, %v", pid, err)
		}
		if _, err := c.Exec(t.Context(), x); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("exec with the same id: %v", err)
		}
		s.say(t, "second")
		_ = s.CloseWrite()
		out, errs := demux(t, s.all(t))
		if out != "first second" || errs != "problem\n" {
			t.Errorf("client got %q and %q", out, errs)
		}
		e, err := c.ExecWait(t.Context(), "one")
		if err != nil || e.Code != 3 {
			t.Errorf("exit %+v, %v", e, err)
		}
		rec, err := shim.ReadExit(shim.ExecExitPath(cfg.Bundle, "one"))
		if err != nil || rec.Code != 3 {
			t.Errorf("record %+v, %v", rec, err)
		}
		if _, err := c.ExecWait(t.Context(), "two"); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("wait for what never was: %v", err)
		}
		y := r.exec(t, "two", false, "")
		y.Process = []byte(strings.Replace(string(y.Process), `"sh"`, `"no-such-program"`, 1))
		if _, err := c.Exec(t.Context(), y); !errdefs.Is(err, errdefs.Invalid) || !saysNotFound(err) {
			t.Errorf("exec of what is not there: %v", err)
		}
		if len(logged(t, cfg)) != 0 {
			t.Error("the output of an exec is in the container's log")
		}
	})
}

// An exec ends when its process does, whoever holds its output open.
func TestExecEndsWithItsProcess(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		cfg := r.config("exec sleep 1000")
		c := run(t, r, cfg)
		x := r.exec(t, "one", false, "sleep 1000 & echo $!")
		s, a := client(t, shim.Attach{Stdout: true})
		x.Attach = []shim.Attach{a}
		start := time.Now()
		if _, err := c.Exec(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		got := s.all(t)
		pid, err := strconv.Atoi(strings.TrimSpace(got))
		if err != nil || time.Since(start) > 10*time.Second {
			t.Errorf("got %q after %v", got, time.Since(start))
		}
		if r.rootfs == "" { // no pid namespace takes it away
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// Execs that are running when the container ends get records too.
func TestExecEndsWithItsContainer(t *testing.T) {
	onRuntimes(t, func(r *rig) {
		t := r.t
		cfg := r.config("exec sleep 1000")
		c := run(t, r, cfg)
		if _, err := c.Exec(t.Context(), r.exec(t, "one", false, "exec sleep 1000")); err != nil {
			t.Fatal(err)
		}
		if err := c.Signal(t.Context(), 9, "test"); err != nil {
			t.Fatal(err)
		}
		e, err := c.ExecWait(t.Context(), "one")
		if err != nil || e.Code != 137 {
			t.Errorf("exit %+v, %v", e, err)
		}
		gone(t, c, cfg)
	})
}

func TestSignalsToTheShim(t *testing.T) {
	r := fakeRig(t)
	cfg := r.config("exec sleep 1000")
	c := run(t, r, cfg)
	p, err := os.FindProcess(c.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Release() }()
	for _, sig := range []os.Signal{sigTerm, sigHup, sigInt, sigPipe} {
		if err := p.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if st, err := c.State(t.Context()); err != nil || st.Status != shim.StatusRunning {
			t.Errorf("after %v: %+v, %v", sig, st, err)
		}
	}
}

// saysNotFound reports whether an error says what clients look for: runc and
// Lade's runtime do so in the same words, crun puts the file's name in between.
func saysNotFound(err error) bool {
	return strings.Contains(err.Error(), "executable file") && strings.Contains(err.Error(), "not found in $PATH")
}

// Many containers at once, each with its own end.
func TestMany(t *testing.T) {
	r := fakeRig(t)
	var wg sync.WaitGroup
	for i := range 40 {
		cfg := r.config(fmt.Sprintf("seq 0 %d; exit %d", 100+i, i))
		s, a := client(t, shim.Attach{Stdout: true})
		wg.Go(func() {
			c, err := shim.Launch(t.Context(), r.shim, cfg, []shim.Attach{a})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Create(t.Context(), nil); err != nil {
				t.Error(err)
				return
			}
			<-c.Done()
			if e, err := shim.ReadExit(cfg.ExitPath()); err != nil || e.Code != i {
				t.Errorf("container %d: %+v, %v", i, e, err)
			}
			if x, ok := c.Exit(); !ok || x.Code != i {
				t.Errorf("container %d announced %+v, %v", i, x, ok)
			}
			want := numbered(101 + i)
			if b, err := io.ReadAll(s); err != nil || string(b) != strings.Join(want, "\n")+"\n" {
				t.Errorf("container %d printed %d bytes, %v", i, len(b), err)
			}
		})
	}
	wg.Wait()
}

// Several requests at once on one connection, and clients that give up.
func TestConcurrentRequests(t *testing.T) {
	r := fakeRig(t)
	c := run(t, r, r.config("exec sleep 1000"))
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
			defer cancel()
			_, _ = c.State(ctx)
			id := fmt.Sprint("x", i)
			if _, err := c.Exec(t.Context(), r.exec(t, id, false, fmt.Sprintf("exit %d", i))); err != nil {
				t.Error(err)
				return
			}
			if e, err := c.ExecWait(t.Context(), id); err != nil || e.Code != i {
				t.Errorf("exec %d: %+v, %v", i, e, err)
			}
		})
	}
	wg.Wait()
	if st, err := c.State(t.Context()); err != nil || len(st.Execs) != 0 {
		t.Errorf("state %+v, %v", st, err)
	}
}

// A run of the runtime may outlive the container that it was for.
func TestRuntimeIsSlow(t *testing.T) {
	r := fakeRig(t)
	r.args = []string{"--slow-kill"}
	cfg := r.config("exec sleep 1000")
	c := run(t, r, cfg)
	if err := c.Signal(t.Context(), 9, "test"); err != nil {
		t.Error(err)
	}
	if e := gone(t, c, cfg); e.Code != 137 {
		t.Errorf("exit %+v", e)
	}
}
