package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/shim/wire"
)

// maxBuffered bounds Attach.Buffered: it travels within a message.
const maxBuffered = 128 << 10

// MaxMounts is how many mounts can be handed over with Create.
const MaxMounts = wire.MaxFiles - 1

// MountPath is where a shim hangs up the mount of that number.
func MountPath(bundle string, n int) string {
	return bundle + "/" + mountsName + "/" + strconv.Itoa(n)
}

// ProcessName is the file in an exec's directory that describes its process.
const ProcessName = "process.json"

// Create has the runtime create the container and returns the process id of
// its first process; with Config.StartNow the container runs. The error's text
// is the runtime's; after an error nothing of the container is left, and the
// shim leaves. A shim of which the root comes is given it here: a mount that
// hangs nowhere, as mount.Pool makes it. With nil the shim puts Config.Root
// together itself. The shim need not be ready yet.
//
// Mounts, of the same kind, are hung up in the bundle at MountPath(0) and on,
// where the caller has made a directory or a file to hang them over.
func (c *Conn) Create(ctx context.Context, root *os.File, mounts ...*os.File) (pid int, err error) {
	if len(mounts) > MaxMounts {
		return 0, errdefs.New(errdefs.Invalid, "create with %d mounts that are handed over; at most %d are allowed", len(mounts), MaxMounts)
	}
	var files []*os.File
	if root != nil {
		files = []*os.File{root}
	}
	var f wire.Fields
	f.AddUint(wire.TagMounts, uint64(len(mounts)))
	w, sent := c.send(wire.Create, f, append(files, mounts...))
	if err := c.Ready(ctx); err != nil {
		return 0, err
	}
	if sent != nil {
		return 0, sent
	}
	f, err = c.await(ctx, w)
	return int(f.Uint(wire.TagPID)), err
}

// Start runs the created container. Errors are like those of Create.
func (c *Conn) Start(ctx context.Context) error {
	_, err := c.call(ctx, wire.Start, nil)
	return err
}

// Attach connects a client. The session is then the shim's affair.
func (c *Conn) Attach(ctx context.Context, a Attach) error {
	if err := a.check(); err != nil {
		return err
	}
	_, err := c.call(ctx, wire.Attach, a.Fields(), a.File)
	return err
}

func (a Attach) check() error {
	if a.File == nil {
		return errdefs.New(errdefs.Invalid, "attach without a connection")
	}
	if len(a.Buffered) > maxBuffered {
		return errdefs.New(errdefs.Invalid, "attach with %d bytes of input; at most %d are allowed", len(a.Buffered), maxBuffered)
	}
	return nil
}

// Signal has the runtime send a signal to the container's first process. Who
// asked is kept for the exit record.
func (c *Conn) Signal(ctx context.Context, sig int, by string) error {
	var f wire.Fields
	f.AddUint(wire.TagSignal, uint64(sig))
	f.AddString(wire.TagBy, by)
	_, err := c.call(ctx, wire.Signal, f)
	return err
}

// Resize sets the size of the terminal of an exec, or of the container if exec
// is empty.
func (c *Conn) Resize(ctx context.Context, exec string, width, height uint16) error {
	var f wire.Fields
	f.AddString(wire.TagExec, exec)
	f.AddUint(wire.TagWidth, uint64(width))
	f.AddUint(wire.TagHeight, uint64(height))
	_, err := c.call(ctx, wire.Resize, f)
	return err
}

// CloseStdin ends the standard input of an exec, or of the container if exec
// is empty, behind what clients have sent.
func (c *Conn) CloseStdin(ctx context.Context, exec string) error {
	var f wire.Fields
	f.AddString(wire.TagExec, exec)
	_, err := c.call(ctx, wire.CloseStdin, f)
	return err
}

// State asks how the container is.
func (c *Conn) State(ctx context.Context) (State, error) {
	f, err := c.call(ctx, wire.State, nil)
	return stateFrom(f), err
}

// ValidExecID reports whether id can name an exec: a file name of at most 64
// bytes, so that a socket in its directory has a short address.
func ValidExecID(id string) bool {
	return id != "" && len(id) <= 64 && id[0] != '.' && !strings.ContainsAny(id, "/\x00")
}

// Exec runs a further process in the container and returns its process id.
// The error's text is the runtime's. An exec's id can be used once.
func (c *Conn) Exec(ctx context.Context, e ExecConfig) (pid int, err error) {
	if !ValidExecID(e.ID) {
		return 0, errdefs.New(errdefs.Invalid, "%q is no id of an exec", e.ID)
	}
	if len(e.Attach) > wire.MaxFiles {
		return 0, errdefs.New(errdefs.Invalid, "exec with %d clients", len(e.Attach))
	}
	var f wire.Fields
	f.AddString(wire.TagExec, e.ID)
	f.AddUint(wire.TagFlags, bit(e.Terminal, wire.FlagTerminal)|bit(e.Stdin, wire.FlagStdin))
	f.AddUint(wire.TagWidth, uint64(e.Width))
	f.AddUint(wire.TagHeight, uint64(e.Height))
	var files []*os.File
	for _, a := range e.Attach {
		if err := a.check(); err != nil {
			return 0, err
		}
		a.Exec = ""
		f.AddBytes(wire.TagAttachment, a.Fields())
		files = append(files, a.File)
	}
	dir := filepath.Join(c.bundle, ExecDir, e.ID)
	if err := makeExec(dir, e.Process); err != nil {
		return 0, err
	}
	r, err := c.call(ctx, wire.Exec, f, files...)
	if err != nil && ctx.Err() == nil {
		_ = os.RemoveAll(dir)
	}
	return int(r.Uint(wire.TagPID)), err
}

func makeExec(dir string, process []byte) error {
	err := os.Mkdir(filepath.Dir(dir), 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make exec: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return errdefs.New(errdefs.Conflict, "exec %s exists", filepath.Base(dir))
	} else if err != nil {
		return fmt.Errorf("make exec: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, ProcessName), process, atomicfile.Options{})
}

// ExecWait waits until the exec has ended. An exec that nobody saw the end of
// is Unknown.
func (c *Conn) ExecWait(ctx context.Context, exec string) (Exit, error) {
	var f wire.Fields
	f.AddString(wire.TagExec, exec)
	r, err := c.call(ctx, wire.ExecWait, f)
	if err == nil {
		return ExitFrom(r.Bytes(wire.TagExit)), nil
	}
	if !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.Unavailable) {
		return Exit{}, err
	}
	// It has ended, or the shim has: then the record says all there is to know.
	e, rerr := ReadExit(ExecExitPath(c.bundle, exec))
	if rerr == nil {
		return e, nil
	}
	if errdefs.Is(err, errdefs.NotFound) {
		return Exit{}, err
	}
	return Exit{Code: 255, Unknown: true, Error: err.Error()}, nil
}
