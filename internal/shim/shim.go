// Package shim starts, finds and drives shims, the small processes that stand
// beside the containers.
//
// A shim is the parent of one container's first process. It keeps the
// container's standard streams and log, serves those who attach, runs the OCI
// runtime, and writes the exit record. Whoever starts it may die at any time:
// the shim goes on, and is found again by the socket in its bundle.
//
//	Begin         the process is on its way; what is asked of it waits for it
//	Launch        it is there, the root is mounted, clients are attached
//	Create        the runtime has made the container; its network can be set up
//	Start         it runs (with Config.StartNow, Create does this too)
//	Exited        the container has ended and its record is on disk
//	Done          the shim has removed the container and left
//
// Package serve holds the shim itself; this one holds what both sides agree
// on, and the side that asks.
package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/logs"
	"lade/internal/logs/forward"
)

// Names within a bundle.
const (
	ConfigName = "shim.json"
	SocketName = "shim.sock"
	StderrName = "shim.err" // what a shim that broke has said; locked while there is one
	ExecDir    = "exec"     // exec/ID/ for each exec
	ExitName   = "exit.json"
	RootName   = "rootfs"
	mountsName = "mounts"
)

// ConfigVersion is the version of Config.
const ConfigVersion = 1

// Config is what a shim is told. Launch writes it into the bundle.
type Config struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Bundle  string `json:"bundle"`
	// Runtime is an OCI runtime's program, RuntimeRoot its --root, and
	// RuntimeArgs what else stands before the command.
	Runtime     string   `json:"runtime"`
	RuntimeRoot string   `json:"runtimeRoot,omitempty"`
	RuntimeArgs []string `json:"runtimeArgs,omitempty"`
	// Root is mounted on BUNDLE/rootfs, seen by the shim and the container
	// only. Nil: the bundle's root is ready.
	Root *mount.Root `json:"root,omitempty"`
	// RootComes says that Create hands over the root, put together. Root is
	// then for Create without it, and for who wants to know.
	RootComes bool `json:"rootComes,omitempty"`
	// Terminal gives the container a terminal of the given size. Stdin keeps
	// its standard input open, for clients; StdinOnce closes it after the
	// first of them. Without Stdin it is empty.
	Terminal      bool   `json:"terminal,omitempty"`
	Stdin         bool   `json:"stdin,omitempty"`
	StdinOnce     bool   `json:"stdinOnce,omitempty"`
	ConsoleWidth  uint16 `json:"consoleWidth,omitempty"`
	ConsoleHeight uint16 `json:"consoleHeight,omitempty"`
	// StartNow makes Create start the container as well.
	StartNow bool `json:"startNow,omitempty"`
	// Log is where the container's output goes.
	Log logs.Config `json:"log"`
	// Forward is where else it goes.
	Forward forward.Config `json:"forward,omitzero"`
	// ExitFile takes the exit record; empty, or if it cannot be written:
	// BUNDLE/exit.json. LastExit looks at both.
	ExitFile string `json:"exitFile,omitempty"`
}

// ReadConfig reads the Config in a bundle.
func ReadConfig(bundle string) (Config, error) {
	var c Config
	b, err := os.ReadFile(filepath.Join(bundle, ConfigName))
	if err != nil {
		return c, fmt.Errorf("read shim's configuration: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read shim's configuration: %w", err)
	}
	return c, c.check()
}

func (c Config) check() error {
	switch {
	case c.Version < 1:
		return errdefs.New(errdefs.Invalid, "shim's configuration has no version")
	case c.ID == "" || c.Runtime == "" || !filepath.IsAbs(c.Bundle):
		return errdefs.New(errdefs.Invalid, "shim's configuration lacks id, runtime or absolute bundle")
	case c.ExitFile != "" && !filepath.IsAbs(c.ExitFile):
		return errdefs.New(errdefs.Invalid, "exit file %s is not absolute", c.ExitFile)
	case !c.Log.None && !filepath.IsAbs(c.Log.Dir):
		return errdefs.New(errdefs.Invalid, "log directory %q is not absolute", c.Log.Dir)
	}
	return nil
}

// ExitPath returns where the exit record is written.
func (c Config) ExitPath() string {
	if c.ExitFile != "" {
		return c.ExitFile
	}
	return filepath.Join(c.Bundle, ExitName)
}

// Attach is a client of a container or of an exec.
type Attach struct {
	// Exec is the exec's id; empty: the container. Launch and Exec ignore it.
	Exec string
	// File is the client's connection. The shim gets a duplicate; the
	// caller closes this one when the call has returned, whatever it returned.
	File *os.File
	// Buffered is what was read from the connection already. It goes to the
	// standard input first.
	Buffered []byte
	// Stdin, Stdout and Stderr say what the client is connected to.
	Stdin, Stdout, Stderr bool
	// Mux frames the output as Docker does: stream, 0, 0, 0, length, data.
	Mux bool
	// DetachKeys end the client's connection when typed; nil means
	// ctrl-p, ctrl-q, and an empty slice none. Terminals only.
	DetachKeys []byte
	// FromLog sends what was logged before what comes.
	FromLog bool
}

// DefaultDetachKeys is ctrl-p, ctrl-q.
const DefaultDetachKeys = "\x10\x11"

// ExecConfig is a further process in a container.
type ExecConfig struct {
	ID       string // names the exec within its container; a file name
	Process  json.RawMessage
	Terminal bool // must agree with Process
	Stdin    bool // keep it open for clients, until one of them ends it
	Width    uint16
	Height   uint16
	Attach   []Attach
}

// State is what a shim says of its container.
type State struct {
	Status    string // fresh, creating, created, starting, running, exited
	PID       int    // of the container's first process, from created on
	StartedAt time.Time
	Dropped   uint64   // lines that the log could not take
	Clients   int      // that are attached, to the container and its execs
	Execs     []string // that run
}

// The values of State.Status.
const (
	StatusFresh    = "fresh"
	StatusCreating = "creating"
	StatusCreated  = "created"
	StatusStarting = "starting"
	StatusRunning  = "running"
	StatusExited   = "exited"
)

// Exit is how a container or an exec ended.
type Exit struct {
	Code      int       `json:"code"` // as a shell sees it: 128 + Signal if that is set
	Signal    int       `json:"signal,omitempty"`
	OOMKilled bool      `json:"oomKilled,omitempty"`
	StartedAt time.Time `json:"startedAt,omitzero"`
	ExitedAt  time.Time `json:"exitedAt,omitzero"`
	// PeakMemory of the container's cgroup in bytes; 0 if that is not known.
	PeakMemory int64 `json:"peakMemory,omitempty"`
	// KilledBy is who asked the shim for the signal that ended it, if one did.
	KilledBy string `json:"killedBy,omitempty"`
	// Unknown says that nobody saw the exit; Code is then 255, and Error says why.
	Unknown bool   `json:"unknown,omitempty"`
	Error   string `json:"error,omitempty"`
}

// ReadExit reads an exit record. A record that is not there is of class
// NotFound: the process runs, or its shim was killed.
func ReadExit(path string) (Exit, error) {
	var e Exit
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, errdefs.With(errdefs.NotFound, fmt.Errorf("read exit record: %w", err))
	}
	if err != nil {
		return e, fmt.Errorf("read exit record: %w", err)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, errdefs.With(errdefs.DataLoss, fmt.Errorf("read exit record %s: %w", path, err))
	}
	return e, nil
}

// LastExit reads the exit record of a container from exitFile, Config's
// ExitFile, or from the bundle, where it lies when there was no room for the
// other. Errors are those of ReadExit.
func LastExit(bundle, exitFile string) (Exit, error) {
	if exitFile != "" {
		if e, err := ReadExit(exitFile); !errdefs.Is(err, errdefs.NotFound) {
			return e, err
		}
	}
	return ReadExit(filepath.Join(bundle, ExitName))
}

// ExecExitPath returns where the exit record of an exec is written.
func ExecExitPath(bundle, exec string) string {
	return filepath.Join(bundle, ExecDir, exec, ExitName)
}
