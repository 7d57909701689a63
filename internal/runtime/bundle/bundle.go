// Package bundle reads OCI bundles: a directory with a config.json and,
// usually, a root file system.
//
// Reading checks only what makes a configuration readable: its version, its
// root, absolute paths. Whether it can be carried out, the planner says.
package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// maxConfig bounds a configuration. The largest seen in the wild have some
// hundred kilobytes.
const maxConfig = 16 << 20

// Bundle is a configuration and where it lies.
type Bundle struct {
	Dir    string // absolute
	Rootfs string // absolute, without symbolic links; "" if the configuration has no root
	Config *specs.Spec
}

// Load reads the bundle in dir.
func Load(dir string) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the bundle: %w", err)
	}
	b := &Bundle{Dir: dir, Config: &specs.Spec{}}
	data, err := readFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.Hint(errdefs.New(errdefs.NotFound, "JSON specification file config.json not found in %s", dir),
			"give the bundle's directory with --bundle")
	}
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	if err := decode(data, b.Config); err != nil {
		return nil, errdefs.New(errdefs.Invalid, "read %s: %w", filepath.Join(dir, "config.json"), err)
	}
	return b, b.check()
}

// Process reads an OCI process, as exec --process gives it.
func Process(path string) (*specs.Process, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the process: %w", err)
	}
	p := &specs.Process{}
	if err := decodeProcess(data, p); err != nil {
		return nil, errdefs.New(errdefs.Invalid, "read %s: %w", path, err)
	}
	return p, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = errdefs.New(errdefs.Exhausted, "%s is larger than %d bytes", path, maxConfig)
	}
	return data, err
}

func (b *Bundle) check() error {
	c := b.Config
	if v := c.Version; !strings.HasPrefix(v, "1.") {
		return errdefs.New(errdefs.Invalid, "ociVersion %q is not supported: 1.0 to 1.3 are", v)
	}
	if c.Root == nil {
		return nil
	}
	if c.Root.Path == "" {
		return errdefs.New(errdefs.Invalid, "root.path must not be empty")
	}
	root := c.Root.Path
	if !filepath.IsAbs(root) {
		root = filepath.Join(b.Dir, root)
	}
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return errdefs.New(errdefs.Invalid, "root.path: %w", err)
	}
	b.Rootfs = real
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if IsBind(m) && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(b.Dir, m.Source)
		}
	}
	return nil
}

// IsBind reports whether a mount is a bind mount.
func IsBind(m *specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}
