package mount

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxString is the longest value that fsconfig takes as a string (the kernel
// copies 256 bytes with their end).
const maxString = 255

// fsContext is a file system that is being configured: what fsopen returns.
// Its first error stays and ends the configuration.
type fsContext struct {
	fd   int
	name string
	err  error
}

func newContext(fsName string) *fsContext {
	fd, err := retryInt(func() (int, error) { return unix.Fsopen(fsName, unix.FSOPEN_CLOEXEC) })
	if err != nil {
		return &fsContext{fd: -1, name: fsName, err: fmt.Errorf("open file system %s: %w", fsName, err)}
	}
	return &fsContext{fd: fd, name: fsName}
}

func (c *fsContext) setString(key, value string) {
	if c.err == nil && len(value) > maxString {
		c.err = fmt.Errorf("set %s of %s: %w", key, c.name, unix.ENAMETOOLONG)
	}
	if c.err == nil {
		c.fail("set "+key+" of", unix.FsconfigSetString(c.fd, key, value))
	}
}

func (c *fsContext) setFlag(key string) {
	if c.err == nil {
		c.fail("set "+key+" of", unix.FsconfigSetFlag(c.fd, key))
	}
}

func (c *fsContext) setFD(key string, fd int) {
	if c.err == nil {
		c.fail("set "+key+" of", unix.FsconfigSetFd(c.fd, key, fd))
	}
}

// mount makes the file system and returns it as a detached mount: it hangs
// nowhere, and goes when its last descriptor does.
func (c *fsContext) mount(attrs int) (int, error) {
	if c.err == nil {
		c.fail("create", retry(func() error { return unix.FsconfigCreate(c.fd) }))
	}
	if c.err != nil {
		return -1, c.err
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", c.name, err)
	}
	return fd, nil
}

func (c *fsContext) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
}

// fail keeps err, with what the kernel has to say about it.
func (c *fsContext) fail(action string, err error) {
	if err == nil {
		return
	}
	c.err = fmt.Errorf("%s %s: %w", action, c.name, err)
	if text := c.log(); text != "" {
		c.err = fmt.Errorf("%s %s: %w (%s)", action, c.name, err, text)
	}
}

// log reads the messages that the file system left in the context: one for
// each read, of the form "e overlay: no such layer".
func (c *fsContext) log() string {
	var lines []string
	buf := make([]byte, 512)
	for {
		n, err := unix.Read(c.fd, buf)
		if err != nil || n <= 0 {
			return strings.Join(lines, "; ")
		}
		line := strings.TrimSpace(string(buf[:n]))
		if level, text, ok := strings.Cut(line, " "); ok && len(level) == 1 {
			line = text
		}
		lines = append(lines, line)
	}
}

// retry calls f until a signal no longer interrupts it: the Go runtime sends
// its threads signals as it pleases.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func retryInt(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// cloneTree returns a detached copy of the mount at path.
func cloneTree(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// attach hangs the detached mount fd up at target.
func attach(fd int, target string) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach to %s: %w", target, err)
	}
	return nil
}

// setAttrs sets attributes of the detached mount fd; with userNS >= 0 it is
// also idmapped as that user namespace says.
func setAttrs(fd int, set uint64, userNS int) error {
	attr := unix.MountAttr{Attr_set: set}
	if userNS >= 0 {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userNS)
	}
	if attr.Attr_set == 0 {
		return nil
	}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
}

// Unmount takes away the mount at target, and whatever is mounted below it.
// Processes that are still inside keep what they have open.
func Unmount(target string) error {
	err := retry(func() error { return unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}
