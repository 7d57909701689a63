package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
)

// Replace unpacks a tar as the layer diffID, in the place of what is there.
// Roots that are mounted keep the old one.
func (s *Store) Replace(ctx context.Context, diffID digest.Digest, tar io.Reader) error {
	if err := check(diffID); err != nil {
		return err
	}
	path := s.path(diffID, s.kind)
	// Of a directory the writer looks at the record, which may be good; so the
	// old one makes room.
	if err := s.remove(s.path(diffID, mount.Directory)); err != nil {
		return fmt.Errorf("replace layer %s: %w", diffID, err)
	}
	if s.removed != nil {
		s.removed(path)
	}
	if err := s.write(ctx, path, diffID, tar, UnpackOptions{}); err != nil {
		return fmt.Errorf("replace layer %s: %w", diffID, err)
	}
	if s.removed != nil { // whoever mounted it meanwhile
		s.removed(path)
	}
	return nil
}

// Tar returns the tar of a layer, byte for byte. A layer that is a directory has
// none any more: the error is of class NotImplemented.
func (s *Store) Tar(diffID digest.Digest) (io.ReadCloser, error) {
	l, err := s.Layer(diffID)
	if err != nil {
		return nil, err
	}
	if l.Kind != mount.EROFS {
		return nil, errdefs.New(errdefs.NotImplemented, "layer %s is a directory, and its tar is not kept", diffID)
	}
	f, err := os.Open(l.Path)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", diffID, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{l.info.Tar(f), f}, nil
}

// VerifyStacks reads what stacks need on top of their layers, and compares it
// with its digests. With repair, what is damaged is removed: it is made anew
// when it is needed. It returns how many there are and what is wrong.
func (s *Store) VerifyStacks(repair bool) (count int, wrong []error, err error) {
	err = s.stacks(func(base string, r stackRecord) error {
		count++
		bad := s.verifyStack(base, r)
		if bad == nil {
			return nil
		}
		if _, err := os.Lstat(base + stackSuffix); err != nil {
			return nil //nolint:nilerr // it went with a layer meanwhile
		}
		wrong = append(wrong, fmt.Errorf("stack %s: %w", filepath.Base(base), bad))
		if repair {
			return s.removeStack(base)
		}
		return nil
	})
	return count, wrong, err
}

func (s *Store) verifyStack(base string, r stackRecord) error {
	if len(r.Layers) == 0 {
		return errdefs.New(errdefs.DataLoss, "its record cannot be read")
	}
	if r.Supplement == "" {
		return nil
	}
	var errs []error
	for _, kind := range []mount.LayerKind{s.kind, other(s.kind)} {
		l, err := openLayer(base+suffix(kind), r.Supplement, kind)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return verifyFile(l)
	}
	return errors.Join(errs...)
}

// verifyFile compares an EROFS file with its digests.
func verifyFile(l Layer) error {
	if l.Kind != mount.EROFS {
		return nil
	}
	f, err := os.Open(l.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.info.Verify(f)
}
