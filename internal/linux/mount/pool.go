package mount

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Pool shares the mounts of layers between roots. Each mount of an EROFS file
// has a page cache of its own: a hundred containers of one image would keep a
// hundred copies of its libraries in memory. Roots from one Pool have one.
//
// The mounts hang nowhere and are held by descriptors, so none outlives its
// process but those that are in use. A Pool is safe for concurrent use.
type Pool struct {
	mu   sync.Mutex
	open map[string]int // detached mounts of EROFS files by their path; guarded by mu
}

// Open puts a root together, as Root.Open does, of mounts that are shared.
func (p *Pool) Open(r *Root, scratch string) (*Detached, error) {
	fd, err := r.open(scratch, p.layer)
	if err != nil {
		return nil, fmt.Errorf("mount root: %w", err)
	}
	return &Detached{fd}, nil
}

// File is Open for who only hands the root on. It needs no scratch directory,
// and a kernel where TryDetachedLayers succeeds.
func (p *Pool) File(r *Root) (*os.File, error) {
	fd, err := r.open("", p.layer)
	if err != nil {
		return nil, fmt.Errorf("put root together: %w", err)
	}
	return os.NewFile(uintptr(fd), "mount"), nil
}

// layer returns a mount of the layer that is the caller's own, of a file system
// that may be shared.
func (p *Pool) layer(l Layer) (int, error) {
	if l.Kind != EROFS {
		return openLayer(l)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	shared, ok := p.open[l.Path]
	if !ok {
		var err error
		if shared, err = openLayer(l); err != nil {
			return -1, err
		}
		if p.open == nil {
			p.open = map[string]int{}
		}
		p.open[l.Path] = shared
	}
	fd, err := unix.OpenTree(shared, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) {
		// Before Linux 6.15 a mount that hangs nowhere cannot be copied.
		return openLayer(l)
	}
	if err != nil {
		return -1, fmt.Errorf("share: %w", err)
	}
	return fd, nil
}

// Forget gives up the mount of the layer at path. That must happen when the
// layer is removed: until then its file keeps its space on the disk. Roots that
// have it keep it.
func (p *Pool) Forget(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fd, ok := p.open[path]; ok {
		_ = unix.Close(fd)
		delete(p.open, path)
	}
}

// Close gives up all mounts.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, fd := range p.open {
		_ = unix.Close(fd)
		delete(p.open, path)
	}
	return nil
}

// Detached is a mount that hangs nowhere yet. It goes with the last descriptor
// of it, also when its holder is killed.
type Detached struct{ fd int }

// FromFile takes over a mount that another process has handed over with File. It
// owns f's descriptor from then on.
func FromFile(f *os.File) (*Detached, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("take over a mount: %w", err)
	}
	return &Detached{fd}, nil
}

// File returns a descriptor of the mount to be handed to another process. The
// caller closes it, apart from Close.
func (d *Detached) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hand over a mount: %w", err)
	}
	return os.NewFile(uintptr(fd), "mount"), nil
}

// Attach hangs the mount up at target.
func (d *Detached) Attach(target string) error {
	return attach(d.fd, target)
}

// Close gives up the descriptor.
func (d *Detached) Close() error { return unix.Close(d.fd) }
