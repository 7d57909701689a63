// Package state keeps what is known of containers on disk: one directory for
// each below a root, with the record state.json in it.
//
// The directory is made, and locked by its maker, before anything else is; the
// first record says what is about to be made (cgroups), the second who runs in
// it. So whenever the maker dies, the record tells what there may be to undo. A
// process is known by its id and its start time: an id alone may have been
// given to another.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// Record is what is kept of a container.
type Record struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`       // 0: there is no process yet
	StartTime   uint64            `json:"startTime"` // of PID, as /proc/PID/stat has it
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       int               `json:"owner"` // the user who made it
	PIDNS       bool              `json:"pidNamespace"`
	Cgroup      cgroup.Group      `json:"cgroup"`
	// Resctrl are directories on resctrl to be removed with the container.
	Resctrl []string `json:"resctrl,omitempty"`
}

// Store is a root of state directories.
type Store struct{ Root string }

// Dir is the state directory of one container.
type Dir struct {
	ID   string
	Path string
	lock *os.File
}

// CheckID tells whether id can name a container: letters, digits and "_+-.",
// and not a name that a file system gives a meaning.
func CheckID(id string) error {
	if id == "" || id == "." || id == ".." || len(id) > 1024 {
		return errdefs.New(errdefs.Invalid, "invalid container ID format: %q", id)
	}
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_+-.", r) {
			return errdefs.New(errdefs.Invalid, "invalid container ID format: %q", id)
		}
	}
	return nil
}

// Create makes the directory of a new container, and locks it. The lock is
// held until Unlock, or until this process dies.
func (s Store) Create(id string) (*Dir, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	d := s.dir(id)
	err := os.Mkdir(d.Path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.Root, 0o700); err == nil {
			err = os.Mkdir(d.Path, 0o700)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, errdefs.Hint(errdefs.New(errdefs.Conflict, "container with id exists: %s", id), "choose another id, or delete that container")
	}
	if err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	return d, d.Lock()
}

func (s Store) dir(id string) *Dir { return &Dir{ID: id, Path: s.Path(id)} }

// Path returns where the directory of a container is, or would be.
func (s Store) Path(id string) string { return filepath.Join(s.Root, id) }

// Open returns the directory of a container.
func (s Store) Open(id string) (*Dir, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	d := s.dir(id)
	if _, err := os.Stat(d.Path); errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.New(errdefs.NotFound, "container does not exist")
	} else if err != nil {
		return nil, fmt.Errorf("find container %s: %w", id, err)
	}
	return d, nil
}

// List returns the ids of all containers.
func (s Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && CheckID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Lock waits until nobody else holds the directory, and holds it.
func (d *Dir) Lock() error {
	f, err := os.Open(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.NotFound, "container does not exist")
	}
	if err != nil {
		return fmt.Errorf("lock container %s: %w", d.ID, err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("lock container %s: %w", d.ID, err)
	}
	d.lock = f
	return nil
}

// Busy reports whether somebody else holds the directory.
func (d *Dir) Busy() bool {
	f, err := os.Open(d.Path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// Unlock lets go of the directory.
func (d *Dir) Unlock() {
	if d.lock != nil {
		_ = d.lock.Close()
		d.lock = nil
	}
}

func (d *Dir) file() string { return filepath.Join(d.Path, "state.json") }

// Save writes the record.
func (d *Dir) Save(r *Record) error {
	// The holder of the lock is the only writer: no need for a name of chance.
	fresh := filepath.Join(d.Path, atomicfile.TempPrefix+"state")
	fd, err := unix.Open(fresh, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	b := r.encode()
	n, err := unix.Write(fd, b)
	_ = unix.Close(fd)
	if err == nil && n != len(b) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = unix.Rename(fresh, d.file())
	}
	if err != nil {
		return fmt.Errorf("save the state: %w", err)
	}
	return nil
}

// Load reads the record. A container whose maker died before the first one
// gives one without a process.
func (d *Dir) Load() (*Record, error) {
	b, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(d.Path); errors.Is(err, fs.ErrNotExist) {
			return nil, errdefs.New(errdefs.NotFound, "container does not exist")
		}
		return &Record{ID: d.ID}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, errdefs.New(errdefs.DataLoss, "read the state of container %s: %w", d.ID, err)
	}
	return r, nil
}

// Remove takes the directory away.
func (d *Dir) Remove() error {
	// The two names that there are, before a search for others.
	_ = unix.Unlink(d.Socket())
	_ = unix.Unlink(d.file())
	err := unix.Rmdir(d.Path)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		err = os.RemoveAll(d.Path)
	} else {
		err = nil
	}
	d.Unlock()
	return err
}

// Socket is where a created container awaits its start.
func (d *Dir) Socket() string { return filepath.Join(d.Path, "start.sock") }

// Status is a state of the life cycle, in the words of the specification.
type Status string

// The states.
const (
	Creating Status = "creating"
	Created  Status = "created"
	Running  Status = "running"
	Paused   Status = "paused"
	Stopped  Status = "stopped"
)

// Status tells where a container is in its life.
func (d *Dir) Status(r *Record) (Status, error) {
	switch {
	case r.PID == 0 && d.lock == nil && d.Busy():
		return Creating, nil
	case !r.Alive():
		return Stopped, nil
	}
	if _, err := os.Lstat(d.Socket()); err == nil {
		return Created, nil
	}
	frozen, err := r.Cgroup.Frozen()
	if err != nil {
		return "", fmt.Errorf("look whether container %s is paused: %w", d.ID, err)
	}
	if frozen {
		return Paused, nil
	}
	return Running, nil
}

// Alive reports whether the recorded process is still there, and not a zombie.
func (r *Record) Alive() bool {
	if r.PID == 0 {
		return false
	}
	start, state, err := ProcessStart(r.PID)
	return err == nil && start == r.StartTime && state != 'Z' && state != 'X'
}

// ProcessStart returns the start time of a process, in clock ticks since boot,
// and its state.
func ProcessStart(pid int) (ticks uint64, state byte, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything.
	i := bytes.LastIndexByte(b, ')')
	f := bytes.Fields(b[i+1:])
	if i < 0 || len(f) < 20 {
		return 0, 0, fmt.Errorf("read /proc/%d/stat: no start time", pid)
	}
	ticks, err = strconv.ParseUint(string(f[19]), 10, 64)
	return ticks, f[0][0], err
}
