package layer

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// benchTar makes a tar of n files of the given size on average, in directories
// of fifty.
func benchTar(n, size int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 2*size)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	var b bytes.Buffer
	for i := range n {
		if i%50 == 0 {
			rawEntry{kind: '5', name: fmt.Sprintf("usr/share/dir%d/", i/50), mode: 0o755}.append(&b)
		}
		content := string(noise[:rnd.IntN(2*size)])
		rawEntry{name: fmt.Sprintf("usr/share/dir%d/file-%d.txt", i/50, i), content: content, mtime: int64(i)}.append(&b)
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// BenchmarkWriteEROFS is the whole way from the tar to a file, but for its sync.
// LADE_TEST_DEBIAN adds a real root.
func BenchmarkWriteEROFS(b *testing.B) {
	tars := map[string][]byte{"empty files": benchTar(50000, 1), "small files": benchTar(20000, 4096), "large files": benchTar(100, 1<<20)}
	if file := os.Getenv("LADE_TEST_DEBIAN"); file != "" {
		var err error
		if tars["debian"], err = os.ReadFile(file); err != nil {
			b.Fatal(err)
		}
	}
	for name, text := range tars {
		b.Run(name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "f")
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			entries := 0
			for b.Loop() {
				f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
				if err != nil {
					b.Fatal(err)
				}
				info, err := WriteEROFS(b.Context(), f, bytes.NewReader(text), Options{})
				if err != nil {
					b.Fatal(err)
				}
				entries += info.Entries
				_ = f.Close()
			}
			b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkHash is the floor: what it takes to read and hash a tar.
func BenchmarkHash(b *testing.B) {
	text := benchTar(100, 1<<20)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		t := newTape(b.Context(), bytes.NewReader(text), 1<<40, func([]byte) error { return nil })
		if _, err := t.Seek(int64(len(text)), io.SeekCurrent); err != nil {
			b.Fatal(err)
		}
	}
}
