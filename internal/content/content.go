// Package content keeps blobs by the digest of their bytes.
//
// A blob is written once, under the name of its digest, and never changes:
//
//	Ingest ─▶ Write … ─▶ Commit ─▶ Open, ReadAll, Has, List ─▶ Delete
//	   └─ Close keeps what was written for a retry, Abort removes it   └▶ Empty
//
// A blob has its final name only after its size and digest matched and its
// bytes are on disk; the name is on disk before Commit returns. A process that
// dies leaves an ingest, which is never mistaken for a blob; Sweep removes
// those that no living process writes. Several processes may use one store.
//
// The package does not know what uses a blob: who may be deleted is decided by
// internal/imagestore.
package content

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/reference"
)

// Store is a directory of blobs. Its methods may be called concurrently.
type Store struct {
	root string
	take func(int64) error // see Bound
}

// Info says what the store knows of a blob.
type Info struct {
	Digest  digest.Digest
	Size    int64
	Written time.Time
}

// Open opens the store in dir, and makes it where there is none.
func Open(dir string) (*Store, error) {
	s := &Store{root: dir}
	for _, d := range []string{s.blobDir("sha256"), s.blobDir("sha512"), s.ingestDir(), s.trashDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open content store: %w", err)
		}
	}
	return s, nil
}

// Bound has take called before so many bytes are written; its error ends the
// write. It must be called before the first one.
func (s *Store) Bound(take func(int64) error) { s.take = take }

func (s *Store) blobDir(alg string) string { return filepath.Join(s.root, "blobs", alg) }
func (s *Store) ingestDir() string         { return filepath.Join(s.root, "ingest") }
func (s *Store) trashDir() string          { return filepath.Join(s.root, "trash") }

// path returns the file of blob d. Only a digest that was checked becomes a
// path: what comes from a registry could be "sha256:../../etc/passwd".
func (s *Store) path(d digest.Digest) (string, error) {
	if err := reference.CheckDigest(d); err != nil {
		return "", err
	}
	return filepath.Join(s.blobDir(string(d.Algorithm())), d.Encoded()), nil
}

// Blob is an open blob: readable from the start and at any place.
type Blob struct {
	*os.File
	size int64
}

// Size returns the blob's length in bytes.
func (b *Blob) Size() int64 { return b.size }

// Open opens blob d. The error is of class NotFound where there is none.
func (s *Store) Open(d digest.Digest) (*Blob, error) {
	path, err := s.path(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, missing(d, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errdefs.New(errdefs.DataLoss, "blob %s is not a file", d)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Blob{f, st.Size()}, nil
}

func missing(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.NotFound, "no such blob: %s", d)
	}
	return fmt.Errorf("blob %s: %w", d, err)
}

// ReadAll returns the bytes of blob d, checked against the digest. A blob
// longer than limit is an error.
func (s *Store) ReadAll(d digest.Digest, limit int64) ([]byte, error) {
	b, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.size > limit {
		return nil, errdefs.New(errdefs.Exhausted, "blob %s has %d bytes, more than the %d allowed here", d, b.size, limit)
	}
	buf := make([]byte, b.size)
	if _, err := io.ReadFull(b, buf); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	if got := d.Algorithm().FromBytes(buf); got != d {
		return nil, errdefs.New(errdefs.DataLoss, "blob %s is damaged: its digest is %s", d, got)
	}
	return buf, nil
}

// Has reports whether blob d is there, and its size.
func (s *Store) Has(d digest.Digest) (Info, bool, error) {
	path, err := s.path(d)
	if err != nil {
		return Info{}, false, err
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Info{}, false, nil
	case err != nil:
		return Info{}, false, fmt.Errorf("blob %s: %w", d, err)
	}
	return Info{d, st.Size(), st.ModTime()}, true, nil
}

// Verify reads blob d as a whole and compares its digest.
func (s *Store) Verify(d digest.Digest) error {
	b, err := s.Open(d)
	if err != nil {
		return err
	}
	defer b.Close()
	h := newHash(d.Algorithm())
	if _, err := io.Copy(h, b); err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return errdefs.New(errdefs.DataLoss, "blob %s is damaged: its digest is %s", d, got)
	}
	return nil
}

// Delete removes blob d: its name is free at once, its space with the next
// Empty. Readers that have it open keep what they have. One that is not there
// is no error.
func (s *Store) Delete(d digest.Digest) error {
	path, err := s.path(d)
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(s.trashDir(), ident.New())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	return nil
}

// Empty gives back the space of blobs that were deleted, by whatever process.
// That takes the kernel about 0.2 s for each GB, which whoever deletes an image
// need not wait for.
func (s *Store) Empty() error {
	entries, err := os.ReadDir(s.trashDir())
	if err != nil {
		return fmt.Errorf("remove deleted blobs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if err := os.Remove(filepath.Join(s.trashDir(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove deleted blob: %w", err))
		}
	}
	return errors.Join(errs...)
}

// List returns all blobs, in no particular order. Files that cannot be blobs
// are passed over.
func (s *Store) List() ([]Info, error) {
	var all []Info
	for _, alg := range []string{"sha256", "sha512"} {
		entries, err := os.ReadDir(s.blobDir(alg))
		if err != nil {
			return nil, fmt.Errorf("list blobs: %w", err)
		}
		for _, e := range entries {
			d := digest.Digest(alg + ":" + e.Name())
			st, err := e.Info()
			if err != nil || !st.Mode().IsRegular() || reference.CheckDigest(d) != nil {
				continue // gone meanwhile, or not ours
			}
			all = append(all, Info{d, st.Size(), st.ModTime()})
		}
	}
	return all, nil
}

// Put stores data and returns its sha256 digest. It is Ingest, Write and
// Commit in one, for small blobs such as manifests.
func (s *Store) Put(data []byte) (digest.Digest, error) {
	d := digest.FromBytes(data)
	return d, s.PutAs(d, data)
}

// PutAs stores data, whose digest must be d.
func (s *Store) PutAs(d digest.Digest, data []byte) error {
	if info, ok, err := s.Has(d); err != nil || ok && info.Size == int64(len(data)) {
		return err
	}
	// A name of its own: two writers of the same bytes do not meet before the
	// rename, where either may be first.
	w, err := s.Ingest(Expect{Name: ident.New(), Digest: d, Size: int64(len(data)), SizeKnown: true})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit()
	return err
}

func newHash(alg digest.Algorithm) hash.Hash {
	if alg == digest.SHA512 {
		return sha512.New()
	}
	return sha256.New()
}

// fileName turns an ingest's name into a file's: names hold colons, slashes
// and whatever else.
func fileName(name string) string {
	return strings.ReplaceAll(digest.FromString(name).String(), ":", "-")
}
