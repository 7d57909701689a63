package imagestore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/metadata"
	"lade/internal/reference"
)

// Entry is one image with all that is recorded of it.
type Entry struct {
	image.Image
	// Record is the manifest that stands for the image: the newest, where the
	// same configuration came with differently packed layers.
	Record Manifest
	// Refs are all names, tags before digests.
	Refs []Ref
	// Tagged is when it last got a name.
	Tagged time.Time

	all []Manifest
}

// Ref is a name that an image has.
type Ref struct {
	Ref    reference.Reference
	Target digest.Digest
	// Manifest is the image's manifest that the name leads to, by way of the
	// target.
	Manifest digest.Digest
	Remote   bool // a registry is known to have it
}

// Resolve finds the image that ref means: a name, a name with a digest, an id,
// or the beginning of an id. It is of class NotFound if there is none, and
// Conflict if several ids begin so.
func (s *Store) Resolve(ref string) (Entry, error) {
	var e Entry
	err := s.db.View(func(tx *metadata.Tx) error {
		id, err := s.find(tx, ref)
		if err == nil {
			e, err = s.entry(tx, id)
		}
		return err
	})
	if err != nil {
		return Entry{}, err
	}
	return e, s.fill(&e)
}

// find returns the id of the image that ref means.
func (s *Store) find(tx *metadata.Tx, ref string) (digest.Digest, error) {
	what, err := reference.ParseAny(ref)
	if err != nil {
		return "", err
	}
	if what.HasRef {
		if n, err := s.names.Get(tx, key(what.Ref)); err == nil {
			m, err := s.manifests.Get(tx, string(n.Manifest))
			return m.Config, err
		}
	}
	if what.IDPrefix == "" {
		return "", noSuch(what.Ref.Familiar())
	}
	return s.findID(tx, what, ref)
}

func (s *Store) findID(tx *metadata.Tx, what reference.Any, ref string) (digest.Digest, error) {
	found := map[digest.Digest]bool{}
	err := s.manifests.Each(tx, func(_ string, m Manifest) error {
		// The digest of a manifest is as good a name, if it is whole.
		if strings.HasPrefix(string(m.Config), "sha256:"+what.IDPrefix) || what.ID != "" && m.Descriptor.Digest == what.ID {
			found[m.Config] = true
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case len(found) > 1:
		return "", errdefs.Hint(errdefs.New(errdefs.Conflict, "multiple IDs found with provided prefix: %s", ref), "give more digits")
	case len(found) == 1:
		for id := range found {
			return id, nil
		}
	}
	if what.HasRef {
		return "", noSuch(what.Ref.Familiar())
	}
	return "", noSuch(ref)
}

func noSuch(ref string) error {
	return errdefs.New(errdefs.NotFound, "No such image: %s", ref)
}

// entry reads what is recorded of the image with the given id.
func (s *Store) entry(tx *metadata.Tx, id digest.Digest) (Entry, error) {
	all, err := s.entries(tx, id)
	if err != nil {
		return Entry{}, err
	}
	if len(all) == 0 {
		return Entry{}, noSuch(string(id))
	}
	return all[0], nil
}

// entries reads all images, or the one with the id only.
func (s *Store) entries(tx *metadata.Tx, only digest.Digest) ([]Entry, error) {
	byID := map[digest.Digest]*Entry{}
	of := map[digest.Digest]*Entry{} // by manifest
	err := s.manifests.Each(tx, func(_ string, m Manifest) error {
		if only != "" && m.Config != only {
			return nil
		}
		e := byID[m.Config]
		if e == nil {
			e = &Entry{}
			byID[m.Config] = e
		}
		e.all = append(e.all, m)
		if e.Record.Added.Before(m.Added) || e.Record.Config == "" {
			e.Record = m
		}
		of[m.Descriptor.Digest] = e
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.names.Each(tx, func(k string, n name) error {
		e := of[n.Manifest]
		if e == nil {
			return nil
		}
		r, err := reference.ParseName(k)
		if err != nil {
			return fmt.Errorf("record of image name: %w", err)
		}
		e.Refs = append(e.Refs, Ref{r, n.Target, n.Manifest, n.Remote})
		if r.Digest == "" && e.Tagged.Before(n.Tagged) {
			e.Tagged = n.Tagged
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]Entry, 0, len(byID))
	for _, e := range byID {
		slices.SortFunc(e.Refs, func(a, b Ref) int { return compare(a.Ref, b.Ref) })
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(b.Record.Added.Compare(a.Record.Added), cmp.Compare(a.Record.Config, b.Record.Config))
	})
	return list, nil
}

// compare orders references: tags before digests, then by text.
func compare(a, b reference.Reference) int {
	if (a.Digest == "") != (b.Digest == "") {
		if a.Digest == "" {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.String(), b.String())
}

// fill reads the configuration, and derives what image.Image says.
func (s *Store) fill(e *Entry) error {
	raw, err := s.content.ReadAll(e.Record.Config, image.MaxConfig)
	if err != nil {
		return fmt.Errorf("image %s: %w", image.ShortID(e.Record.Config), err)
	}
	c, err := image.ParseConfig(raw)
	if err != nil {
		return fmt.Errorf("image %s: %w", image.ShortID(e.Record.Config), err)
	}
	e.Image = image.Image{ID: e.Record.Config, Manifest: e.Record.Descriptor.Digest, Config: c}
	for _, l := range e.Record.Layers {
		e.Size += l.Size
	}
	for _, r := range e.Refs {
		if r.Ref.Digest == "" {
			e.Names = append(e.Names, r.Ref.Familiar())
		} else {
			e.Digests = append(e.Digests, r.Ref.Familiar())
		}
	}
	return nil
}

// List returns all images, the last added first. An image whose configuration
// cannot be read is passed over, with a word in the log: one damaged file
// does not hide the others.
func (s *Store) List() ([]Entry, error) {
	var list []Entry
	err := s.db.View(func(tx *metadata.Tx) (err error) {
		list, err = s.entries(tx, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	good := list[:0]
	for _, e := range list {
		if err := s.fill(&e); err != nil {
			s.log.Error("image passed over", "image", e.Record.Config, "err", err)
			continue
		}
		good = append(good, e)
	}
	return good, nil
}
