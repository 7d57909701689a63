package hostfacts

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/moby/moby/api/types/blkiodev"
	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Devices returns the device nodes that a container is given: those asked
// for, or all of the host's.
func Devices(h *api.HostConfig) ([]specs.LinuxDevice, error) {
	if h.Privileged {
		return allDevices("/dev")
	}
	var out []specs.LinuxDevice
	for _, d := range h.Devices {
		target := d.PathInContainer
		if target == "" {
			target = d.PathOnHost
		}
		st, err := os.Stat(d.PathOnHost)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "error gathering device information while adding custom device %q: %w", d.PathOnHost, err)
		}
		if st.IsDir() {
			sub, err := allDevices(d.PathOnHost)
			if err != nil {
				return nil, err
			}
			for _, x := range sub {
				x.Path = path.Join(target, x.Path[len(d.PathOnHost):])
				out = append(out, x)
			}
			continue
		}
		dev, ok := deviceOf(st, path.Clean(target))
		if !ok {
			return nil, errdefs.New(errdefs.Invalid, "error gathering device information while adding custom device %q: not a device node", d.PathOnHost)
		}
		out = append(out, dev)
	}
	return out, nil
}

// allDevices returns the device nodes below dir, without terminals and what a
// container has of its own.
func allDevices(dir string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		switch e.Name() {
		case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
			if e.IsDir() {
				return fs.SkipDir
			}
		case "console":
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		st, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		if d, ok := deviceOf(st, p); ok {
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

func deviceOf(st fs.FileInfo, target string) (specs.LinuxDevice, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || st.Mode()&fs.ModeDevice == 0 {
		return specs.LinuxDevice{}, false
	}
	kind := "b"
	if st.Mode()&fs.ModeCharDevice != 0 {
		kind = "c"
	}
	major, minor := deviceNumber(sys.Rdev)
	mode := st.Mode().Perm()
	return specs.LinuxDevice{Path: target, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &sys.Uid, GID: &sys.Gid}, true
}

// deviceNumber splits the kernel's dev_t as glibc's gnu_dev_major does.
func deviceNumber(dev uint64) (major, minor int64) {
	return int64(dev>>8&0xfff | dev>>32&0xfffff000), int64(dev&0xff | dev>>12&0xffffff00)
}

// BlockDevices returns the numbers of the devices that I/O limits name.
func BlockDevices(h *api.HostConfig) (map[string][2]int64, error) {
	var paths []string
	for _, l := range [][]*blkiodev.ThrottleDevice{h.BlkioDeviceReadBps, h.BlkioDeviceWriteBps, h.BlkioDeviceReadIOps, h.BlkioDeviceWriteIOps} {
		for _, d := range l {
			paths = append(paths, d.Path)
		}
	}
	for _, d := range h.BlkioWeightDevice {
		paths = append(paths, d.Path)
	}
	out := map[string][2]int64{}
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "limit I/O of device %s: %w", strconv.Quote(p), err)
		}
		if d, ok := deviceOf(st, p); ok && d.Type == "b" {
			out[p] = [2]int64{d.Major, d.Minor}
		}
	}
	return out, nil
}
