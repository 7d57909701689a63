package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
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
	s.mounted = append(s.mounted, target)
	return nil
}

// hangUp takes over mounts that were handed to us, and hangs each one up at its
// place in the bundle, which has been made for it.
func (s *server) hangUp(handed []int) error {
	var errs []error
	for n, fd := range handed {
		m, err := mount.FromFile(os.NewFile(uintptr(fd), "mount"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		target := shim.MountPath(s.cfg.Bundle, n)
		if err := errors.Join(m.Attach(target), m.Close()); err != nil {
			errs = append(errs, fmt.Errorf("mount %d of those handed over: %w", n, err))
			continue
		}
		s.mounted = append(s.mounted, target)
	}
	return errors.Join(errs...)
}

// unmount takes the root and other mounts away. They would end with us anyway,
// but later than our end can be seen.
func (s *server) unmount() {
	for _, target := range slices.Backward(s.mounted) {
		if err := mount.UnmountOnly(target); err != nil {
			complain("%v", err)
		}
	}
}
