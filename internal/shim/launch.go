package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"lade/internal/atomicfile"
	"lade/internal/linux/scm"
	"lade/internal/shim/wire"
)

// ControlFD is the descriptor on which a shim finds the connection of who
// launched it.
const ControlFD = 3

// RuntimeSettings are the environment variables that fit the Go runtime to a
// process that is one small loop. The shim does not pass them on.
var runtimeSettings = []string{"GOMAXPROCS=1", "GOGC=50", "GOMEMLIMIT=6MiB", "GODEBUG=disablethp=1,containermaxprocs=0,updatemaxprocs=0"}

// Launch starts a shim from its program. When it returns, the shim speaks, the
// root is mounted (unless it comes), and the clients are attached. The shim
// outlives ctx and the caller, but leaves when its connections end before
// Create was asked for.
func Launch(ctx context.Context, program string, cfg Config, attach []Attach) (*Conn, error) {
	c, err := Begin(program, cfg, attach)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Begin is Launch without the wait for what Ready waits for: there is more to
// do while a program starts.
func Begin(program string, cfg Config, attach []Attach) (*Conn, error) {
	cfg.Version = ConfigVersion
	if err := cfg.check(); err != nil {
		return nil, err
	}
	for _, a := range attach {
		if err := a.check(); err != nil {
			return nil, err
		}
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("write shim's configuration: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(cfg.Bundle, ConfigName), data, atomicfile.Options{}); err != nil {
		return nil, err
	}
	c, err := start(program, cfg)
	if err != nil {
		return nil, err
	}
	for _, a := range attach {
		a.Exec = ""
		w, err := c.send(wire.Attach, a.Fields(), []*os.File{a.File})
		if err != nil {
			w = make(chan answer, 1) // the greeting, if there is one, says more
			w <- answer{err: err}
		}
		c.clients = append(c.clients, w)
	}
	return c, nil
}

// Ready waits until a shim that was begun speaks, has mounted the root that it
// is to mount by itself, and has the clients attached.
func (c *Conn) Ready(ctx context.Context) error {
	if err := c.greet(ctx); err != nil {
		return withLastWords(err, c.bundle)
	}
	for _, w := range c.clients {
		if _, err := c.await(ctx, w); err != nil {
			return fmt.Errorf("attach client: %w", err)
		}
	}
	c.clients = nil
	return nil
}

func start(program string, cfg Config) (*Conn, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("launch shim: %w", err)
	}
	defer null.Close()
	words, err := openWords(cfg.Bundle)
	if err != nil {
		return nil, fmt.Errorf("launch shim: %w", err)
	}
	defer words.Close()
	ours, theirs, err := scm.Pair()
	if err != nil {
		return nil, fmt.Errorf("launch shim: %w", err)
	}
	end := os.NewFile(uintptr(theirs), "shim's end")
	defer end.Close()
	sys := &syscall.SysProcAttr{Setsid: true}
	if cfg.Root != nil || os.Geteuid() == 0 {
		sys.Cloneflags = syscall.CLONE_NEWNS
	}
	p, err := os.StartProcess(program, []string{program, cfg.Bundle}, &os.ProcAttr{
		Dir: "/", Env: environment(), Files: []*os.File{null, null, words, end}, Sys: sys,
	})
	if err != nil {
		scm.CloseAll([]int{ours})
		return nil, fmt.Errorf("launch shim: %w", err)
	}
	c, err := newConn(cfg.Bundle, ours, openProcess(p.Pid), p)
	if err != nil {
		scm.CloseAll([]int{ours}) // which makes it leave
		return nil, err
	}
	c.started = p.Pid
	return c, nil
}

func environment() []string {
	env := slices.DeleteFunc(os.Environ(), IsRuntimeSetting)
	return append(env, runtimeSettings...)
}

// IsRuntimeSetting reports whether a KEY=VALUE is one of those that Launch
// sets for the shim itself.
func IsRuntimeSetting(kv string) bool {
	return slices.ContainsFunc(runtimeSettings, func(s string) bool {
		key, _, _ := strings.Cut(s, "=")
		return strings.HasPrefix(kv, key+"=")
	})
}

// withLastWords adds what a shim that broke has said.
func withLastWords(err error, bundle string) error {
	f, ferr := os.Open(filepath.Join(bundle, StderrName))
	if ferr != nil {
		return err
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 4096))
	if s := strings.TrimSpace(string(b)); s != "" {
		return fmt.Errorf("%w: %s", err, s)
	}
	return err
}
