package stores

import (
	"path/filepath"
	"testing"

	"lade/internal/content"
	"lade/internal/metadata"
)

// Records opens a new database of records, until the test ends.
func Records(tb testing.TB) *metadata.DB {
	tb.Helper()
	db, err := metadata.Open(filepath.Join(tb.TempDir(), "lade.db"), metadata.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// Blobs opens the blobs in dir/content.
func Blobs(tb testing.TB, dir string) *content.Store {
	tb.Helper()
	blobs, err := content.Open(filepath.Join(dir, "content"))
	if err != nil {
		tb.Fatal(err)
	}
	return blobs
}
