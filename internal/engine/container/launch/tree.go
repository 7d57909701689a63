package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	api "github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/linux/mount"
)

// View opens the root of a container that does not run: with what it has
// mounted in it when it runs, or without. It must not start meanwhile.
func (l *Launcher) View(def record.Definition, mounts bool) (*mount.View, error) {
	if l.cfg.Look == nil {
		return nil, errdefs.New(errdefs.NotImplemented, "this engine cannot look into containers that do not run")
	}
	root, err := l.prepare(def)
	if err != nil {
		return nil, fmt.Errorf("prepare the root file system: %w", err)
	}
	var list []mount.ViewMount
	if mounts {
		var files []*os.File
		list, files, err = l.viewMounts(def)
		defer closeAll(files)
		if err != nil {
			return nil, fmt.Errorf("look into container %s: %w", def.Name, err)
		}
	}
	v, err := l.cfg.Look(&root, list)
	if err != nil {
		return nil, fmt.Errorf("look into container %s: %w", def.Name, err)
	}
	return v, nil
}

// viewMounts are the files and directories of the host that a container sees.
// What is not there any more is left out: the container could not start. The
// files, of what is open already, are the caller's to close.
func (l *Launcher) viewMounts(def record.Definition) (list []mount.ViewMount, files []*os.File, err error) {
	add := func(m request.Mount) {
		st, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		list = append(list, mount.ViewMount{Target: m.Target, Dir: err == nil && st.IsDir(), Open: func() (*mount.Detached, error) {
			o := mount.BindOptions{Recursive: !m.NonRecursive, UIDMap: idMaps(def.IDBase), GIDMap: idMaps(def.IDBase)}
			if m.ReadOnly {
				o.Flags = []string{"ro"}
			}
			d, err := mount.OpenBind(m.Source, o)
			if err != nil && def.IDBase != 0 { // a file system that cannot map ids
				o.UIDMap, o.GIDMap = nil, nil
				d, err = mount.OpenBind(m.Source, o)
			}
			return d, err
		}})
	}
	for target, source := range map[string]string{
		"/etc/hosts": l.cfg.Hosts(def.ID), "/etc/hostname": l.cfg.Hostname(def.ID), "/etc/resolv.conf": l.cfg.Resolv(def.ID),
	} {
		add(request.Mount{Source: source, Target: target})
	}
	for _, m := range def.Mounts {
		switch {
		case m.Type == api.TypeBind || m.Type == api.TypeVolume && m.Subpath == "":
			add(m)
		case m.Handed():
			v, f, err := l.viewHanded(def, m)
			if gone(err) {
				continue
			}
			if f != nil {
				files = append(files, f)
			}
			if err != nil {
				return nil, files, err
			}
			list = append(list, v)
		}
	}
	return list, files, nil
}

// Stubs returns the paths at which the runtime makes a mount point where the
// image has none.
func (l *Launcher) Stubs(def record.Definition) map[string]bool {
	stubs := map[string]bool{}
	for _, p := range []string{
		"/dev", "/proc", "/sys", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
		"/sbin/docker-init",
	} {
		stubs[p] = true
	}
	for _, m := range def.Mounts {
		stubs[m.Target] = true
	}
	return stubs
}
