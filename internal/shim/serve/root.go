package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"lade/internal/linux/mount"
	"lade/internal/shim"
)

// ownMounts makes the mounts that we see our own: what the host mounts later,
// as volumes, is to be seen here, and nothing of ours there.
func ownMounts(cfg shim.Config) error {
	own, err := ownNamespace()
	if err != nil {
		return err
	}
	if !own {
		if cfg.Root != nil {
			return errors.New("mount root: the shim has no mount namespace of its own")
		}
		return nil
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts our own: %w", err)
	}
	return nil
}

// ownNamespace reports whether our mount namespace is another than our parent's.
func ownNamespace() (bool, error) {
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false, fmt.Errorf("look at mount namespace: %w", err)
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	if err != nil {
		return false, fmt.Errorf("look at the parent's mount namespace: %w", err)
	}
	return ours != theirs, nil
}

// mountRoot mounts the container's root where only we and the container see
// it: the one that was handed over, else the one of the configuration. It takes
// the file over.
func (s *server) mountRoot(handed *os.File) error {
	if s.cfg.Root == nil {
		if handed != nil {
			return handed.Close()
		}
		return nil
	}
	target := s.cfg.Bundle + "/" + shim.RootName
	if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		if handed != nil {
			handed.Close()
		}
		return fmt.Errorf("mount root: %w", err)
	}
	if handed == nil {
		if err := s.cfg.Root.Mount(target); err != nil {
			return fmt.Errorf("mount root: %w", err)
		}
	} else {
		m, err := mount.FromFile(handed)
		if err != nil {
			return err
		}
		if err := errors.Join(m.Attach(target), m.Close()); err != nil {
			return fmt.Errorf("mount root: %w", err)
		}
	}
	s.mounted = target
	return nil
}

// unmountRoot unmounts the root. It would end with us anyway, but later than
// our end can be seen.
func (s *server) unmountRoot() {
	if s.mounted == "" {
		return
	}
	if err := mount.Unmount(s.mounted); err != nil {
		complain("%v", err)
	}
}
