package imagestore

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/metadata"
	"lade/internal/snapshot"
)

// BenchmarkDelete removes an image of 512 MiB as blobs and 1 GiB unpacked, in
// eight layers. What a person waits for is the time of an operation; how long
// the file system then takes to give the space back is reported beside it.
func BenchmarkDelete(b *testing.B) {
	const layers, packed, unpacked = 8, 64 << 20, 128 << 20
	dir := b.TempDir()
	db, err := metadata.Open(filepath.Join(dir, "lade.db"), metadata.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	blobs, err := content.Open(filepath.Join(dir, "content"))
	if err != nil {
		b.Fatal(err)
	}
	snaps, err := snapshot.Open(dir, snapshot.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := New(Config{DB: db, Content: blobs, Layers: Snapshots{snaps}})
	var deleting, reclaiming time.Duration
	rounds := 0
	for b.Loop() {
		b.StopTimer()
		rounds++
		m := Manifest{}
		for i := range layers {
			m.Layers = append(m.Layers, bigLayer(b, blobs, snaps, [2]int{rounds, i}, [2]int{packed, unpacked}))
		}
		if m.Config, err = blobs.Put(fmt.Appendf(nil, "{%d", rounds)); err != nil {
			b.Fatal(err)
		}
		if m.Descriptor.Digest, err = blobs.Put(fmt.Appendf(nil, "manifest %d", rounds)); err != nil {
			b.Fatal(err)
		}
		if err := s.Put(m, Name{Ref: ref("x")}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		began := time.Now()
		if _, err := s.Delete(m.Config, DeleteOptions{Named: true}); err != nil {
			b.Fatal(err)
		}
		deleting += time.Since(began)
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		reclaiming += time.Since(began)
		b.StartTimer()
	}
	b.ReportMetric(float64(deleting.Milliseconds())/float64(rounds), "ms-until-told")
	b.ReportMetric(float64(reclaiming.Milliseconds())/float64(rounds), "ms-until-free")
}

// bigLayer stores a blob and a layer that have nothing to do with each other.
func bigLayer(b *testing.B, blobs *content.Store, snaps *snapshot.Store, id, sizes [2]int) Layer {
	b.Helper()
	data := make([]byte, sizes[1])
	_, _ = rand.NewChaCha8([32]byte{byte(id[0]), byte(id[1])}).Read(data)
	blob, err := blobs.Put(data[:sizes[0]])
	if err != nil {
		b.Fatal(err)
	}
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: int64(len(data)), Mode: 0o644}); err != nil {
		b.Fatal(err)
	}
	whole := func() io.Reader {
		return io.MultiReader(bytes.NewReader(head.Bytes()), bytes.NewReader(data), bytes.NewReader(make([]byte, 1024)))
	}
	diffID, err := digest.FromReader(whole())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := snaps.Unpack(b.Context(), diffID, whole(), snapshot.UnpackOptions{}); err != nil {
		b.Fatal(err)
	}
	return Layer{Blob: blob, Size: int64(sizes[0]), DiffID: diffID}
}
