package mount

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount puts the root together and attaches it to the directory target. The
// layers hang nowhere else: Unmount(target), or the end of the mount namespace,
// releases everything. On error nothing is left.
func (r *Root) Mount(target string) error {
	m, err := r.Open(target)
	if err != nil {
		return err
	}
	if err := errors.Join(m.Attach(target), m.Close()); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	return nil
}

// Open puts the root together as a detached mount. scratch is a directory of
// the caller's mount namespace over which older kernels need to mount while
// they work; nothing of that remains.
func (r *Root) Open(scratch string) (*Detached, error) {
	fd, err := r.open(scratch, openLayer)
	if err != nil {
		return nil, fmt.Errorf("mount root: %w", err)
	}
	return &Detached{fd}, nil
}

func (r *Root) open(scratch string, layer func(Layer) (int, error)) (int, error) {
	if err := r.check(); err != nil {
		return -1, err
	}
	layers, err := r.openLayers(layer)
	defer closeAll(layers)
	if err != nil {
		return -1, err
	}
	if r.Upper == "" && len(layers) == 1 {
		// An overlay wants two layers. One alone is its own root.
		fd := layers[0]
		layers[0] = -1
		return fd, nil
	}
	image := -1
	if r.Image != "" {
		if image, err = openImage(r.Image); err != nil {
			return -1, fmt.Errorf("writable layer (%s): %w", r.Image, err)
		}
		defer unix.Close(image)
	}
	fd, err := r.overlay(layers, r.writable(image))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBADF) {
		// Before Linux 6.15 an overlay takes no detached layers.
		old, oldErr := r.overlayAttached(layers, image, scratch)
		if oldErr == nil {
			return old, nil
		}
		err = errors.Join(err, oldErr)
	}
	return fd, err
}

// TryDetachedLayers returns why an overlay cannot be told its layers by
// descriptors of mounts that hang nowhere.
func TryDetachedLayers() error {
	var layers []int
	defer func() { closeAll(layers) }()
	for range 2 {
		c := newContext("tmpfs")
		defer c.close()
		fd, err := c.mount(0)
		if err != nil {
			return err
		}
		layers = append(layers, fd)
	}
	fd, err := new(Root).overlay(layers, nil)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// check finds what no kernel would accept, with a better message.
func (r *Root) check() error {
	switch {
	case len(r.Layers) == 0:
		return errors.New("no layers")
	case (r.Upper == "") != (r.Work == ""):
		return errors.New("upper and work go together")
	case (len(r.UIDMap) == 0) != (len(r.GIDMap) == 0):
		return errors.New("user and group mappings go together")
	}
	for i, l := range r.Layers {
		if l.Kind != EROFS && l.Kind != Directory {
			return fmt.Errorf("layer %d (%s): unknown kind %q", i, l.Path, l.Kind)
		}
	}
	return nil
}

// openLayers returns one detached read-only mount for each layer, lowest first;
// after an error those that it has come to.
func (r *Root) openLayers(open func(Layer) (int, error)) (fds []int, err error) {
	userNS := -1
	if len(r.UIDMap) > 0 {
		if userNS, err = UserNamespace(r.UIDMap, r.GIDMap); err != nil {
			return nil, err
		}
		defer unix.Close(userNS)
	}
	for i, l := range r.Layers {
		fd, err := open(l)
		if err != nil {
			return fds, fmt.Errorf("layer %d (%s): %w", i, l.Path, err)
		}
		fds = append(fds, fd)
		if err := setAttrs(fd, unix.MOUNT_ATTR_RDONLY, userNS); err != nil {
			if userNS >= 0 {
				err = fmt.Errorf("idmap: %w", err)
			}
			return fds, fmt.Errorf("layer %d (%s): %w", i, l.Path, err)
		}
	}
	return fds, nil
}

func openLayer(l Layer) (int, error) {
	if l.Kind == Directory {
		return cloneTree(l.Path)
	}
	return openEROFS(l.Path)
}

// openEROFS mounts the file at path without a loop device (since Linux 6.12).
func openEROFS(path string) (int, error) {
	source := path
	if len(source) > maxString {
		f, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, fmt.Errorf("open: %w", err)
		}
		defer unix.Close(f)
		source = fdPath(f)
	}
	c := newContext("erofs")
	defer c.close()
	c.setString("source", source)
	c.setFlag("ro")
	return c.mount(unix.MOUNT_ATTR_RDONLY)
}

// directory is where an overlay writes, by the name that it has for that.
type directory struct{ key, path string }

// writable returns where the overlay writes; image is the mount that this is in,
// if it is in one.
func (r *Root) writable(image int) []directory {
	if r.Upper == "" {
		return nil
	}
	in := ""
	if image >= 0 {
		in = fdPath(image)
	}
	return []directory{{"upperdir", filepath.Join(in, r.Upper)}, {"workdir", filepath.Join(in, r.Work)}}
}

// overlay stacks the layers below what can be written, all by descriptor.
func (r *Root) overlay(layers []int, writable []directory) (int, error) {
	c := newContext("overlay")
	defer c.close()
	c.setString("source", "overlay")
	for _, fd := range slices.Backward(layers) {
		c.setFD("lowerdir+", fd)
	}
	if r.Upper == "" {
		r.options(c.setString, c.setFlag)
		return c.mount(unix.MOUNT_ATTR_RDONLY)
	}
	for _, d := range writable {
		fd, err := openDir(d.path)
		if err != nil {
			return -1, err
		}
		defer unix.Close(fd)
		c.setFD(d.key, fd)
	}
	r.options(c.setString, c.setFlag)
	return c.mount(0)
}

// options sets what every overlay of ours has, whatever the defaults of the
// machine: no attribute in a layer may make the kernel look elsewhere for a
// file's data or a directory's content.
func (r *Root) options(set func(key, value string), flag func(key string)) {
	set("redirect_dir", "nofollow")
	set("metacopy", "off")
	set("index", "off")
	if r.Upper != "" && r.Volatile {
		flag("volatile")
	}
}

// overlayAttached does the same for kernels that want to find the layers in
// the mount namespace: they hang for that moment in a tmpfs over scratch. The
// overlay keeps mounts of its own of all that it is given.
func (r *Root) overlayAttached(layers []int, image int, scratch string) (fd int, err error) {
	c := newContext("tmpfs")
	defer c.close()
	c.setString("mode", "0700")
	tmp, err := c.mount(unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmp)
	if err := attach(tmp, scratch); err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, Unmount(scratch)) }()

	// Descriptors keep the names short, mount(2) takes one page of them, and
	// free of characters that mean something to it.
	var open []int
	defer func() { closeAll(open) }()
	name := func(path string) (string, error) {
		dir, err := openDir(path)
		if err != nil {
			return "", err
		}
		open = append(open, dir)
		return fdPath(dir), nil
	}
	var lower []string
	for i, fd := range slices.Backward(layers) {
		at := filepath.Join(scratch, strconv.Itoa(i))
		if err := unix.Mkdir(at, 0o700); err != nil {
			return -1, fmt.Errorf("layer %d: %w", i, err)
		}
		if err := attach(fd, at); err != nil {
			return -1, fmt.Errorf("layer %d: %w", i, err)
		}
		dir, err := name(at)
		if err != nil {
			return -1, fmt.Errorf("layer %d: %w", i, err)
		}
		lower = append(lower, dir)
	}
	if image >= 0 {
		at := filepath.Join(scratch, "image")
		if err := unix.Mkdir(at, 0o700); err != nil {
			return -1, fmt.Errorf("writable layer: %w", err)
		}
		if err := attach(image, at); err != nil {
			return -1, fmt.Errorf("writable layer: %w", err)
		}
	}
	data := []string{"lowerdir=" + strings.Join(lower, ":")}
	r.options(func(k, v string) { data = append(data, k+"="+v) }, func(k string) { data = append(data, k) })
	flags := uintptr(unix.MS_RDONLY)
	if r.Upper != "" {
		flags = 0
	}
	for _, d := range r.writable(image) {
		path, err := name(d.path)
		if err != nil {
			return -1, err
		}
		data = append(data, d.key+"="+path)
	}
	root := filepath.Join(scratch, "root")
	if err := unix.Mkdir(root, 0o700); err != nil {
		return -1, err
	}
	if err := unix.Mount("overlay", root, "overlay", flags, strings.Join(data, ",")); err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	return cloneTree(root)
}

func openDir(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open directory %s: %w", path, err)
	}
	return fd, nil
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}
