package content

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/reference"
)

// ErrBusy is what Ingest returns while another writer, of this or another
// process, works under the same name.
var ErrBusy = errors.New("another writer is at work on this blob")

// Expect says what a Writer will be given.
type Expect struct {
	// Name identifies the ingest: the next Ingest of the same name goes on
	// where Close left off. Empty means the digest.
	Name string
	// Digest is what the bytes must have. Empty: whatever they have, by
	// sha256; Commit says.
	Digest digest.Digest
	// Size is what the bytes must count, where it is positive or SizeKnown;
	// more are refused as soon as they come.
	Size int64
	// SizeKnown makes Size count even if it is 0.
	SizeKnown bool
	// Limit bounds the bytes where no size is known; 0 means none.
	Limit int64
	// Fresh discards what an earlier Writer of the same name left.
	Fresh bool
}

// Writer takes the bytes of one blob. It is for one goroutine. It holds a lock
// on its file, which ends with the process: that tells an ingest which is
// being written from one that was left.
type Writer struct {
	store  *Store
	file   *os.File
	hash   hash.Hash
	expect Expect
	offset int64
	done   bool
}

// Ingest begins to write a blob, or goes on with it: Offset says how many bytes
// are there from before. The error is ErrBusy while another writer has it.
func (s *Store) Ingest(e Expect) (*Writer, error) {
	if e.Name == "" {
		e.Name = string(e.Digest)
	}
	if e.Name == "" {
		return nil, errdefs.New(errdefs.Invalid, "ingest: neither name nor digest")
	}
	alg := digest.SHA256
	if e.Digest != "" {
		if err := reference.CheckDigest(e.Digest); err != nil {
			return nil, err
		}
		alg = e.Digest.Algorithm()
	}
	e.SizeKnown = e.SizeKnown || e.Size > 0
	f, err := lockFile(filepath.Join(s.ingestDir(), fileName(e.Name)))
	if err != nil {
		return nil, fmt.Errorf("ingest %s: %w", e.Name, err)
	}
	w := &Writer{store: s, file: f, hash: newHash(alg), expect: e}
	if err := w.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("ingest %s: %w", e.Name, err), f.Close())
	}
	return w, nil
}

// lockFile opens path and locks it. The file that was locked may have been
// renamed or removed between open and lock; then the name is tried again.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, ErrBusy
			}
			return nil, fmt.Errorf("lock: %w", err)
		}
		if same(f, path) {
			return f, nil
		}
		_ = f.Close()
	}
}

func same(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// resume hashes what an earlier writer left.
func (w *Writer) resume() error {
	if w.expect.Fresh {
		return w.Restart()
	}
	n, err := io.Copy(w.hash, w.file)
	if err != nil {
		return err
	}
	if w.over(n) != nil {
		return w.Restart()
	}
	w.offset = n
	return nil
}

// Restart throws away what was written and begins anew.
func (w *Writer) Restart() error {
	w.hash.Reset()
	w.offset = 0
	if err := w.file.Truncate(0); err != nil {
		return err
	}
	_, err := w.file.Seek(0, io.SeekStart)
	return err
}

// Offset returns how many bytes the writer has.
func (w *Writer) Offset() int64 { return w.offset }

// Prefix returns a reader of what the writer has now.
func (w *Writer) Prefix() io.Reader { return io.NewSectionReader(w.file, 0, w.offset) }

// Sum returns the digest of what was written so far.
func (w *Writer) Sum() digest.Digest { return digest.NewDigest(w.algorithm(), w.hash) }

func (w *Writer) over(n int64) error {
	switch {
	case w.expect.SizeKnown && n > w.expect.Size:
		return errdefs.New(errdefs.DataLoss, "blob %s is longer than the %d bytes that were announced", w.expect.Name, w.expect.Size)
	case w.expect.Limit > 0 && n > w.expect.Limit:
		return errdefs.New(errdefs.Exhausted, "blob %s is longer than the %d bytes allowed", w.expect.Name, w.expect.Limit)
	}
	return nil
}

// Write adds p. Bytes beyond the expected size are refused.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.over(w.offset + int64(len(p))); err != nil {
		return 0, err
	}
	if take := w.store.take; take != nil {
		if err := take(int64(len(p))); err != nil {
			return 0, err
		}
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.offset += int64(n)
	return n, noSpace(err)
}

// noSpace gives a full disk its class and its advice.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errdefs.Hint(errdefs.With(errdefs.Exhausted, err), "free space on the file system that holds the data root, or remove images that nothing needs")
	}
	return err
}

// Commit checks size and digest, brings the bytes to disk, gives the blob its
// name and ends the Writer. If size or digest are wrong, the bytes are removed:
// no retry could go on with them; only a blob that is too short is kept.
func (w *Writer) Commit() (Info, error) {
	if w.done {
		return Info{}, errdefs.New(errdefs.Internal, "ingest %s: it has ended", w.expect.Name)
	}
	if w.expect.SizeKnown && w.offset < w.expect.Size {
		err := errdefs.New(errdefs.DataLoss, "blob %s ends after %d of %d bytes", w.expect.Name, w.offset, w.expect.Size)
		return Info{}, errors.Join(err, w.Close())
	}
	got := w.Sum()
	if w.expect.Digest != "" && got != w.expect.Digest {
		err := errdefs.New(errdefs.DataLoss, "blob %s has the digest %s", w.expect.Digest, got)
		return Info{}, errors.Join(err, w.Abort())
	}
	if err := w.publish(got); err != nil {
		return Info{}, errors.Join(fmt.Errorf("store blob %s: %w", got, err), w.Abort())
	}
	return Info{Digest: got, Size: w.offset, Written: time.Now()}, w.Close()
}

func (w *Writer) algorithm() digest.Algorithm {
	if w.expect.Digest != "" {
		return w.expect.Digest.Algorithm()
	}
	return digest.SHA256
}

func (w *Writer) publish(d digest.Digest) error {
	path, err := w.store.path(d)
	if err != nil {
		return err
	}
	if err := syscall.Fdatasync(int(w.file.Fd())); err != nil {
		return noSpace(err)
	}
	// The rename may replace the same blob, written by another meanwhile: both
	// have these bytes.
	if err := os.Rename(w.file.Name(), path); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Close ends the Writer and keeps what it has for the next of its name. After
// Commit or Abort it does nothing.
func (w *Writer) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	return w.file.Close()
}

// Abort ends the Writer and removes what it has.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	// Removed under the lock: the name is still this writer's.
	err := os.Remove(w.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, w.Close())
}

// Sweep removes ingests that no process writes and that were last written
// before the given time, but for those of the blobs in keep: between two
// attempts of a download nobody writes. It returns the bytes that they had.
func (s *Store) Sweep(before time.Time, keep ...digest.Digest) (int64, error) {
	kept := map[string]bool{}
	for _, d := range keep {
		kept[fileName(string(d))] = true
	}
	entries, err := os.ReadDir(s.ingestDir())
	if err != nil {
		return 0, fmt.Errorf("sweep ingests: %w", err)
	}
	var freed int64
	var errs []error
	for _, e := range entries {
		st, err := e.Info()
		if err != nil || !st.ModTime().Before(before) || kept[e.Name()] {
			continue
		}
		n, err := sweepOne(filepath.Join(s.ingestDir(), e.Name()))
		freed += n
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

func sweepOne(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil || !same(f, path) {
		return 0, nil // being written, or just committed
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), os.Remove(path)
}
