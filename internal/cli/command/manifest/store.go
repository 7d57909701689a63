package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// list is a manifest list that is being put together. It is the client's until
// it is pushed, as in Docker: the engine hears of it then.
type list struct {
	Name    string // in full
	Members []member
}

// member is one image of a list.
type member struct {
	Ref        string // in full, as it was given
	Repository string
	Descriptor ocispec.Descriptor
}

// store keeps lists, one file for each.
type store struct{ dir string }

// path returns a list's file. Its name is the list's, without slashes.
func (s store) path(name string) string {
	return filepath.Join(s.dir, url.PathEscape(name)+".json")
}

func (s store) get(name string) (list, error) {
	raw, err := os.ReadFile(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return list{}, errdefs.New(errdefs.NotFound, "No such manifest: %s", name)
	}
	var l list
	if err == nil {
		err = json.Unmarshal(raw, &l)
	}
	if err != nil {
		return l, fmt.Errorf("read manifest list %s: %w", name, err)
	}
	return l, nil
}

// put keeps a list: the old file or the new one is there at any time.
func (s store) put(l list) error {
	raw, err := json.Marshal(l)
	if err == nil {
		err = os.MkdirAll(s.dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("keep manifest list %s: %w", l.Name, err)
	}
	f, err := os.CreateTemp(s.dir, ".tmp-")
	if err != nil {
		return fmt.Errorf("keep manifest list %s: %w", l.Name, err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(l.Name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep manifest list %s: %w", l.Name, err)
	}
	return nil
}

func (s store) remove(name string) error {
	err := os.Remove(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.NotFound, "No such manifest: %s", name)
	}
	return err
}
