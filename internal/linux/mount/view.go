package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/inroot"
)

// View is a tree of mounts that only its holder sees: a root with what a
// container has mounted in it. The mounts hang in a mount namespace in which no
// process is; they go with the last descriptor, also when the holder is killed.
type View struct {
	// Root is the root of the tree. Paths in it are resolved with openat2.
	Root *os.File
	ns   *os.File // keeps the namespace; nil where there is none
}

// Close gives the view up. What was opened in it stays open.
func (v *View) Close() error {
	err := v.Root.Close()
	if v.ns != nil {
		err = errors.Join(err, v.ns.Close())
	}
	return err
}

// ViewMount is a mount in a view.
type ViewMount struct {
	Target string // absolute; symbolic links in it are those of the tree
	// Open returns what is mounted. Dir is whether it is a directory: a mount
	// point that is missing is made like it.
	Open func() (*Detached, error)
	Dir  bool
}

// FileView is a view of a root that hangs nowhere, as Pool.File makes it.
func FileView(root *os.File) *View { return &View{Root: root} }

// OpenView puts a view together. scratch is an empty directory over which the
// tree hangs in its own namespace; nothing of that is seen elsewhere.
func OpenView(root func(scratch string) (*Detached, error), scratch string, mounts []ViewMount) (*View, error) {
	type result struct {
		v   *View
		err error
	}
	done := make(chan result, 1)
	go onThread(func() {
		v, err := openView(root, scratch, mounts)
		done <- result{v, err}
	})
	r := <-done
	return r.v, r.err
}

// onThread runs fn in a thread that ends with this goroutine, as it is never
// unlocked: fn gives it a mount namespace of its own. It is not the first
// thread, which cannot end, and is what /proc/PID shows of the process.
func onThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThread(fn)
	}()
	<-done
	runtime.UnlockOSThread()
}

func openView(root func(string) (*Detached, error), scratch string, mounts []ViewMount) (*View, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("cut a mount namespace off: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("keep a mount namespace: %w", err)
	}
	v := &View{ns: ns}
	if err := v.fill(root, scratch, mounts); err != nil {
		if v.Root != nil {
			_ = v.Root.Close()
		}
		_ = ns.Close()
		return nil, err
	}
	return v, nil
}

func (v *View) fill(root func(string) (*Detached, error), scratch string, mounts []ViewMount) error {
	m, err := root(scratch)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Attach(scratch); err != nil {
		return err
	}
	if v.Root, err = m.File(); err != nil {
		return err
	}
	for _, one := range mounts {
		if err := v.mount(one); err != nil {
			return fmt.Errorf("mount at %s: %w", one.Target, err)
		}
	}
	return nil
}

func (v *View) mount(one ViewMount) error {
	place, err := v.place(one.Target, one.Dir)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	m, err := one.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	return unix.MoveMount(m.fd, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// MakePlace makes a mount point, and the directories on the way to it.
func (v *View) MakePlace(target string, dir bool) error {
	fd, err := v.place(target, dir)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// place opens a mount point. What is missing on the way is made, each name in
// the directory that was resolved before it; of a link that leads to nothing,
// as /etc/resolv.conf in many images, that is what it leads to.
func (v *View) place(target string, dir bool) (int, error) {
	fd, err := v.open(target)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if target, err = inroot.Resolve(v.Root, target); err != nil {
		return -1, err
	}
	parts := strings.Split(strings.Trim(target, "/"), "/")
	for k, name := range parts {
		parent, err := v.open("/" + path.Join(parts[:k]...))
		if err != nil {
			return -1, err
		}
		if k == len(parts)-1 && !dir {
			err = unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
		} else {
			err = unix.Mkdirat(parent, name, 0o755)
		}
		_ = unix.Close(parent)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("make the mount point: %w", err)
		}
	}
	return v.open(target)
}

func (v *View) open(p string) (int, error) {
	return retryInt(func() (int, error) {
		return unix.Openat2(int(v.Root.Fd()), p, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
	})
}
