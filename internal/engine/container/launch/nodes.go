package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/record"
	"lade/internal/linux/fsat"
)

// nodesDir holds a container's device nodes, in its data directory.
const nodesDir = "devices"

// ownNodes gives a container with a user namespace device nodes of its own. The
// kernel lets nobody in there make any, and the host's belong to ids that the
// namespace does not have: its root could use none that is not for everybody.
// So the engine makes them, for the owner that they have without a user
// namespace, and they are bound. What the container may do with a device is for
// its cgroup to say, as ever.
//
// Where the data directory is on a file system without devices (nodev), the
// host's nodes have to do.
func (l *Launcher) ownNodes(config *specs.Spec, def record.Definition) error {
	devices := config.Linux.Devices
	if def.IDBase == 0 || len(devices) == 0 {
		return nil
	}
	path := filepath.Join(l.cfg.Data(def.ID), nodesDir)
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o700)); err != nil {
		return fmt.Errorf("make device nodes: %w", err)
	}
	dir, err := fsat.Open(path)
	if err != nil {
		return fmt.Errorf("make device nodes: %w", err)
	}
	defer dir.Close()
	if !dir.HasDevices() {
		l.log.Warn("the data directory's file system has no devices (nodev): the container gets the host's", "container", def.ID)
		return nil
	}
	config.Linux.Devices = nil
	for i := range devices {
		name := strconv.Itoa(i)
		if err := makeNode(dir, name, &devices[i], def.IDBase); err != nil {
			return fmt.Errorf("device %s: %w", devices[i].Path, err)
		}
		config.Mounts = append(config.Mounts, specs.Mount{
			Destination: devices[i].Path, Type: "bind", Source: filepath.Join(path, name), Options: []string{"bind", "nosuid", "noexec", "rprivate"},
		})
	}
	return nil
}

// makeNode makes one of the nodes, whose owner's ids are the container's.
func makeNode(dir *fsat.Dir, name string, d *specs.LinuxDevice, base uint32) error {
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(*d.FileMode & fs.ModePerm)
	}
	kind := map[string]uint32{"b": syscall.S_IFBLK, "p": syscall.S_IFIFO}[d.Type]
	if kind == 0 {
		kind = syscall.S_IFCHR
	}
	if err := dir.Mknod(name, kind|mode, fsat.Device(d.Major, d.Minor)); err != nil {
		return err
	}
	inside := func(id *uint32) uint32 {
		if id == nil || *id >= idrange.Size {
			return base
		}
		return base + *id
	}
	return dir.SetAttr(name, fsat.Attr{Mode: mode, UID: inside(d.UID), GID: inside(d.GID), Seconds: time.Now().Unix()}, false)
}
