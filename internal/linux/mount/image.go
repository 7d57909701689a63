package mount

import (
	"fmt"

	"lade/internal/linux/loop"
)

// OpenImage mounts the ext4 file system in the file at path, as a mount that
// hangs nowhere. While it is mounted already, that is one more mount of the same.
func OpenImage(path string) (*Detached, error) {
	fd, err := openImage(path)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", path, err)
	}
	return &Detached{fd}, nil
}

func openImage(path string) (int, error) {
	// Until it is mounted, this descriptor keeps the device.
	dev, err := loop.Open(path)
	if err != nil {
		return -1, err
	}
	defer dev.Close()
	c := newContext("ext4")
	defer c.close()
	c.setString("source", dev.Name())
	// What is removed in it is given back to the file system below. Tables of
	// inodes that nobody has used stay holes.
	c.setFlag("discard")
	c.setFlag("noinit_itable")
	return c.mount(0)
}

// Path returns a path to the mount's root that is good for this process, until
// Close.
func (d *Detached) Path() string { return fdPath(d.fd) }
