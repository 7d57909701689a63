package transfer

import (
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
)

// cpu returns what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPullDebian pulls a real root file system, gzipped, and compares with
// the floor, in CPU time: to download it, hash it packed and unpacked, inflate
// it, and throw it away. LADE_TEST_DEBIAN names the tar. The registry is in this
// process, and counts on both sides.
func BenchmarkPullDebian(b *testing.B) {
	name := os.Getenv("LADE_TEST_DEBIAN")
	if name == "" {
		b.Skip("LADE_TEST_DEBIAN names no tar")
	}
	tar, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	reg := newRegistry(b)
	desc := reg.image("tag", "amd64", image.Gzip, tar)
	ref, err := reference.Parse(reg.url + "/x:tag")
	if err != nil {
		b.Fatal(err)
	}
	m, err := image.ParseManifest(reg.manifests["tag"], desc.MediaType)
	if err != nil {
		b.Fatal(err)
	}
	blob := "http://" + reg.url + "/v2/x/blobs/" + string(m.Layers[0].Digest)
	var pulls, floors, removals time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		began := cpu(b)
		floor(b, blob)
		floors += cpu(b) - began

		t, _ := real(b)
		began = cpu(b)
		res, err := t.Pull(b.Context(), PullOptions{Ref: ref}, nil)
		if err != nil {
			b.Fatal(err)
		}
		pulls += cpu(b) - began
		at := time.Now()
		if _, err := t.Images.Delete(res.ID, imagestore.DeleteOptions{Named: true}); err != nil {
			b.Fatal(err)
		}
		removals += time.Since(at)
	}
	b.ReportMetric(float64(pulls)/float64(floors), "x-floor")
	b.ReportMetric(pulls.Seconds()/float64(rounds), "cpu-s/pull")
	b.ReportMetric(floors.Seconds()/float64(rounds), "cpu-s/floor")
	b.ReportMetric(float64(removals.Milliseconds())/float64(rounds), "ms/removal")
}

func floor(b *testing.B, url string) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Fatal(resp.Status)
	}
	packed, plain := sha256.New(), sha256.New()
	z, err := gzip.NewReader(io.TeeReader(resp.Body, packed))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyBuffer(plain, z, make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
}
