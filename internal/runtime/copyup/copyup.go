// Package copyup copies a directory tree to another, both given by
// descriptors, for tmpfs mounts that begin with what they hide.
//
// The source belongs to a container, so it is read one name at a time, never
// through a link or another mount, and each file is known by descriptor before
// it is opened. The target is a file system that nobody else can reach yet.
package copyup

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Options say what is not to be copied, and how much at most.
type Options struct {
	// Mode and Owner copy those of the source directory itself.
	Mode, Owner bool
	// Entries, Bytes and Depth bound what is copied: pages of a tmpfs count
	// as the runtime's, not as the container's.
	Entries int
	Bytes   int64
	Depth   int
}

// Limits returns the limits that suit images: what lies below /run, /tmp or
// /var in one.
func Limits() Options {
	return Options{Entries: 1 << 17, Bytes: 1 << 30, Depth: 64}
}

// Copy copies what is in the directory source to the directory target: files,
// directories, symbolic links and pipes, with mode, owner and time of change.
// Sockets and what is mounted below source stay behind, and so do devices: a
// nodev mount below the target would not be there to disarm the copy.
func Copy(source, target int, o Options) error {
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return fmt.Errorf("look at the target: %w", err)
	}
	// The thread takes the ids of the target's owner, and ends with them.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := become(int(st.Uid), int(st.Gid))
		if err == nil {
			c := &copier{o: o}
			err = c.top(source, target)
		}
		done <- err
	}()
	return <-done
}

// become makes the thread create files as uid and gid. A tmpfs that belongs to
// a user namespace takes none from ids that are not mapped there, and nobody
// but its owner's are sure to be.
func become(uid, gid int) error {
	if uid == os.Geteuid() && gid == os.Getegid() {
		return nil
	}
	if err := errors.Join(unix.Setfsgid(gid), unix.Setfsuid(uid)); err != nil {
		return fmt.Errorf("take the ids %d:%d of the target: %w", uid, gid, err)
	}
	// The change took the capabilities over files; they are still permitted.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("keep own capabilities: %w", err)
	}
	return nil
}

// copier counts what is copied.
type copier struct {
	o       Options
	entries int
	bytes   int64
}

func (c *copier) top(source, target int) error {
	from, err := unix.Openat(source, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read the directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		_ = unix.Close(from)
		return fmt.Errorf("look at the directory: %w", err)
	}
	to, err := unix.Openat(target, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(from)
		return fmt.Errorf("open the target: %w", err)
	}
	defer unix.Close(to)
	if err := c.directory(from, to, ".", 0); err != nil {
		return err
	}
	if c.o.Owner {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return fmt.Errorf("give the copy its owner %d:%d: %w", st.Uid, st.Gid, err)
		}
	}
	if c.o.Mode {
		if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
			return fmt.Errorf("give the copy its mode: %w", err)
		}
	}
	return nil
}

// directory copies what is in from, which it closes. path is for errors.
func (c *copier) directory(from, to int, path string, depth int) error {
	dir := os.NewFile(uintptr(from), path)
	defer dir.Close()
	if depth > c.o.Depth {
		return errdefs.New(errdefs.Exhausted, "%s: directories are nested more than %d deep", path, c.o.Depth)
	}
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if err := c.entry(from, to, name, path, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
}

// entry copies one name.
func (c *copier) entry(from, to int, name, path string, depth int) error {
	if c.entries++; c.entries > c.o.Entries {
		return errdefs.New(errdefs.Exhausted, "there are more than %d files", c.o.Entries)
	}
	if name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("the directory %s has an entry %q", path, name)
	}
	path += "/" + name
	fd, err := unix.Openat2(from, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // gone meanwhile
	}
	var st unix.Stat_t
	mounted := errors.Is(err, unix.EXDEV)
	if mounted {
		// Its name stays, as the place that it is.
		err = unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	} else if err == nil {
		defer unix.Close(fd)
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		if err = unix.Mkdirat(to, name, 0o700); err == nil && !mounted {
			err = c.below(fd, to, name, path, depth)
		}
	case mounted:
		return nil
	case kind == unix.S_IFREG:
		err = c.file(fd, to, name)
	case kind == unix.S_IFLNK:
		err = link(fd, to, name)
	case kind == unix.S_IFIFO:
		err = unix.Mknodat(to, name, unix.S_IFIFO|0o600, 0)
	default:
		return nil
	}
	if err == nil {
		err = attributes(to, name, &st)
	}
	if _, told := errors.AsType[*wrapped](err); err == nil || told {
		return err
	}
	return &wrapped{fmt.Errorf("copy %s: %w", path, err)}
}

// wrapped is an error that names its file.
type wrapped struct{ error }

// Unwrap returns the error itself.
func (w *wrapped) Unwrap() error { return w.error }

// below copies the directory fd, of which to has an empty one of that name.
func (c *copier) below(fd, to int, name, path string, depth int) error {
	from, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	sub, err := unix.Openat(to, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(from)
		return err
	}
	defer unix.Close(sub)
	return c.directory(from, sub, path, depth+1)
}

// file copies a regular file, which is opened by the descriptor that says so.
func (c *copier) file(fd, to int, name string) error {
	in, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	for {
		n, err := unix.Sendfile(out, in, nil, int(min(1<<20, c.o.Bytes-c.bytes+1)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if c.bytes += int64(n); c.bytes > c.o.Bytes {
			return errdefs.New(errdefs.Exhausted, "there are more than %d bytes", c.o.Bytes)
		}
	}
}

func link(fd, to int, name string) error {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", b[:])
	if err != nil {
		return err
	}
	return unix.Symlinkat(string(b[:n]), to, name)
}

// attributes gives a copy what its original has. The owner comes first: chown takes bits away that chmod sets.
func attributes(to int, name string, st *unix.Stat_t) error {
	if st.Uid == math.MaxUint32 || st.Gid == math.MaxUint32 {
		return errors.New("its owner is not known in the container")
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("give it to %d:%d: %w", st.Uid, st.Gid, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
	return unix.UtimesNanoAt(to, name, times, unix.AT_SYMLINK_NOFOLLOW)
}
