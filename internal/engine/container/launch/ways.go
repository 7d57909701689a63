package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	api "github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container/record"
	"lade/internal/linux/fsids"
	"lade/internal/linux/inroot"
	"lade/internal/linux/mount"
)

// makeWays makes what links in a root lead to that lead to nothing, where
// something is to be mounted: in many images /etc/resolv.conf is such a link.
// Other mount points are made by the runtime.
func (l *Launcher) makeWays(def record.Definition, root *os.File) error {
	targets := map[string]bool{"/etc/hosts": false, "/etc/hostname": false, "/etc/resolv.conf": false}
	for _, m := range l.sources(def) {
		st, err := os.Stat(m.Source)
		targets[m.Target] = m.Type == api.TypeTmpfs || err == nil && st.IsDir()
	}
	for target, dir := range targets {
		if err := makeWay(root, target, dir, def.IDBase); err != nil {
			return fmt.Errorf("make a place for the mount at %s: %w", target, err)
		}
	}
	return nil
}

func makeWay(root *os.File, target string, dir bool, owner uint32) error {
	f, err := inroot.Path(root, target)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // the runtime says what is wrong
	}
	to, err := inroot.Resolve(root, target)
	if err != nil || to == path.Clean(target) {
		return err
	}
	return fsids.As(owner, owner, func() error { return mount.FileView(root).MakePlace(to, dir) })
}
