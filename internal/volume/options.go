package volume

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
)

// Options are what the driver local is told: a file system to mount. The zero
// value is a directory.
type Options struct {
	Type   string // of the file system; "none" or "bind" with o=bind is a directory of the host
	Device string
	Data   string // comma-separated, as mount(8) takes them after -o
}

// IsZero reports whether there is nothing to mount.
func (o Options) IsZero() bool { return o == Options{} }

// ParseOptions reads the options of a volume of the driver local. The messages
// are Docker's.
func ParseOptions(m map[string]string) (Options, error) {
	var o Options
	for k, v := range m {
		switch k {
		case "type":
			o.Type = v
		case "device":
			o.Device = v
		case "o":
			o.Data = v
		case "size":
			return o, errdefs.New(errdefs.Invalid, "quota size requested but no quota support")
		default:
			return o, errdefs.New(errdefs.Invalid, "invalid option: %q", k)
		}
	}
	if len(m) == 0 {
		return o, nil
	}
	for _, need := range []string{"type", "device"} {
		if _, ok := m[need]; !ok {
			return o, errdefs.New(errdefs.Invalid, "missing required option: %q", need)
		}
	}
	if strings.ContainsRune(o.Type+o.Device+o.Data, 0) {
		return o, errdefs.New(errdefs.Invalid, "an option of the volume holds a NUL byte")
	}
	return o, nil
}

// bind reports whether the options name a directory of the host, and whether
// with what is mounted below it.
func (o Options) bind() (bind, recursive bool) {
	for word := range strings.SplitSeq(o.Data, ",") {
		bind = bind || word == "bind" || word == "rbind"
		recursive = recursive || word == "rbind"
	}
	return bind, recursive
}

// Mount mounts what the options of a volume name on its directory. One that is
// mounted already stays mounted.
func (s *Store) Mount(name string, o Options) error {
	if err := check(name); err != nil {
		return err
	}
	if o.IsZero() {
		return nil
	}
	target := s.Path(name)
	mounted, err := mount.IsMountPoint(target)
	if err != nil || mounted {
		return err
	}
	m, err := o.open()
	if err != nil {
		return errdefs.With(errdefs.Invalid, fmt.Errorf("error while mounting volume '%s': failed to mount local volume: %w", target, err))
	}
	defer m.Close()
	return m.Attach(target)
}

// open returns what is to be mounted, as a mount that hangs nowhere.
func (o Options) open() (*mount.Detached, error) {
	words := strings.Split(o.Data, ",")
	if bind, recursive := o.bind(); bind {
		return mount.OpenBind(o.Device, mount.BindOptions{Recursive: recursive, Flags: words})
	}
	if strings.HasPrefix(o.Type, "nfs") || o.Type == "cifs" {
		if err := lookUpServer(words); err != nil {
			return nil, err
		}
	}
	return mount.OpenFileSystem(o.Type, o.Device, words)
}

// lookUpServer puts the address of a network file system's server in the place
// of its name: the kernel takes no names.
func lookUpServer(words []string) error {
	for i, w := range words {
		name, ok := strings.CutPrefix(w, "addr=")
		if !ok {
			continue
		}
		if _, err := netip.ParseAddr(name); err == nil {
			continue
		}
		addr, err := net.ResolveIPAddr("ip", name)
		if err != nil {
			return fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		words[i] = "addr=" + addr.String()
	}
	return nil
}

// Unmount takes away what is mounted on a volume. Containers that run keep it.
func (s *Store) Unmount(name string) error {
	if err := check(name); err != nil {
		return err
	}
	mounted, err := mount.IsMountPoint(s.Path(name))
	if err != nil || !mounted {
		return nil //nolint:nilerr // there is no volume, so nothing on it
	}
	return mount.Unmount(s.Path(name))
}
