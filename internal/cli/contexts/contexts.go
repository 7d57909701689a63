// Package contexts keeps the engines that a person works with under names.
//
// A context is a name for the socket of an engine. Each is a file of its own,
// which appears whole or not at all, so that two lade that write at once lose
// nothing of one another. The context default is in no file: it is where an
// engine listens by itself.
//
// Docker's own contexts are left alone: the engines behind them are Docker's.
// What is exported has Docker's form, and so has what can be imported.
package contexts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"lade/client"
	"lade/internal/errdefs"
)

// Default is the name of the context that is always there.
const Default = "default"

// Context is an engine with a name.
type Context struct {
	Name        string `json:"-"`
	Description string `json:",omitempty"`
	Host        string // unix:///path
}

// Store is a directory of contexts.
type Store struct {
	dir string
}

// New returns the store below a directory, which need not exist.
func New(dir string) *Store { return &Store{dir: dir} }

// Dir returns the directory of a person's configuration: $XDG_CONFIG_HOME/lade
// or ~/.config/lade.
func Dir(getenv func(string) string) (string, error) {
	if d := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "lade"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errdefs.Hint(errdefs.New(errdefs.Invalid, "there is no home directory to keep contexts in"), "set HOME, or name a directory with --config")
	}
	return filepath.Join(home, ".config", "lade"), nil
}

// Path returns the file of a context; that of default is "".
func (s *Store) Path(name string) string {
	if name == Default {
		return ""
	}
	return filepath.Join(s.dir, "contexts", name+".json")
}

func (s *Store) currentPath() string { return filepath.Join(s.dir, "current-context") }

// Get returns a context.
func (s *Store) Get(name string) (Context, error) {
	if name == Default {
		return Context{Name: Default, Description: "The engine of this machine", Host: client.DefaultHost()}, nil
	}
	if err := CheckName(name); err != nil {
		return Context{}, err
	}
	raw, err := os.ReadFile(s.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		err := errdefs.New(errdefs.NotFound, "context %q: context not found", name)
		return Context{}, errdefs.Hint(err, "'lade context ls' lists what there is")
	}
	if err != nil {
		return Context{}, fmt.Errorf("context %q: %w", name, err)
	}
	c := Context{}
	if err := json.Unmarshal(raw, &c); err != nil {
		err := errdefs.New(errdefs.DataLoss, "context %q: %s: %w", name, s.Path(name), err)
		return Context{}, errdefs.Hint(err, "remove it with 'lade context rm -f %s'", name)
	}
	c.Name = name
	return c, CheckHost(c.Host)
}

// List returns the names of all contexts in order, default first.
func (s *Store) List() ([]string, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, "contexts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list contexts: %w", err)
	}
	names := []string{Default}
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".json"); ok && CheckName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names[1:])
	return names, nil
}

// Create adds a context. One of that name must not be there.
func (s *Store) Create(c Context) error { return s.put(c, os.Link) }

// Update replaces a context.
func (s *Store) Update(c Context) error {
	if c.Name == Default {
		return errdefs.New(errdefs.Invalid, "context %q is reserved and cannot be changed", Default)
	}
	if _, err := os.Stat(s.Path(c.Name)); err != nil {
		_, err := s.Get(c.Name)
		return err
	}
	return s.put(c, os.Rename)
}

// put writes a context's file aside and gives it its name.
func (s *Store) put(c Context, name func(from, to string) error) error {
	if c.Name == Default {
		return errdefs.New(errdefs.Invalid, "%q is a reserved context name", Default)
	}
	if err := errors.Join(CheckName(c.Name), CheckHost(c.Host)); err != nil {
		return err
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	err = s.write(s.Path(c.Name), raw, name)
	if errors.Is(err, fs.ErrExist) {
		return errdefs.New(errdefs.Conflict, "context %q already exists", c.Name)
	}
	return err
}

func (s *Store) write(path string, raw []byte, name func(from, to string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = name(f.Name(), path)
	}
	_ = os.Remove(f.Name()) // it has another name now, or is of no use
	return err
}

// Remove takes a context away.
func (s *Store) Remove(name string) error {
	if name == Default {
		return errdefs.New(errdefs.Invalid, "context %q cannot be removed", Default)
	}
	if err := CheckName(name); err != nil {
		return err
	}
	err := os.Remove(s.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.NotFound, "context %q: context not found", name)
	}
	if err == nil && s.Current() == name {
		return s.Use(Default)
	}
	return err
}

// Current returns the name of the context that was chosen last.
func (s *Store) Current() string {
	raw, err := os.ReadFile(s.currentPath())
	name := strings.TrimSpace(string(raw))
	if err != nil || name == "" {
		return Default
	}
	return name
}

// Use chooses a context for all commands to come.
func (s *Store) Use(name string) error {
	if name == Default {
		if err := os.Remove(s.currentPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("use context %q: %w", name, err)
		}
		return nil
	}
	if _, err := s.Get(name); err != nil {
		return err
	}
	return s.write(s.currentPath(), []byte(name), os.Rename)
}

// contextName is what Docker takes for one; it is no path.
var contextName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$`)

// CheckName refuses what is no name of a context.
func CheckName(name string) error {
	if !contextName.MatchString(name) || len(name) > 128 {
		return errdefs.New(errdefs.Invalid, "context name %q is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\"", name)
	}
	return nil
}

// CheckHost refuses what no engine of Lade's listens on.
func CheckHost(host string) error {
	_, err := client.SocketPath(host)
	if err == nil {
		return nil
	}
	if kind, _, ok := strings.Cut(host, "://"); ok && kind != "unix" {
		err := errdefs.New(errdefs.NotImplemented, "host %q: Lade's engine listens on a Unix socket only", host)
		return errdefs.Hint(err, "bring a distant one here: ssh -nNT -L $PWD/lade.sock:/run/lade/lade.sock MACHINE, and use unix://$PWD/lade.sock")
	}
	return err
}
