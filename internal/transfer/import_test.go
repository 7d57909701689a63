package transfer

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	spec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
)

func TestImport(t *testing.T) {
	tar := tarOf(t, map[string]string{"etc/a": noise(100000, 1)})
	for _, c := range []image.Compression{image.Plain, image.Gzip, image.Zstd} {
		f := newFixture(t, Limits{})
		ref, _ := reference.Parse("mine/root:1")
		var config spec.DockerOCIImage
		config.OS, config.Architecture = "linux", "amd64"
		config.Config.Healthcheck = &spec.HealthcheckConfig{Test: []string{"CMD", "true"}}
		packed := pack(t, c, tar)
		if _, err := f.Import(t.Context(), bytes.NewReader(packed), config, ref); err != nil {
			t.Fatal(err)
		}
		e, err := f.Images.Resolve("mine/root:1")
		if err != nil {
			t.Fatal(err)
		}
		if l := e.Record.Layers[0]; l.DiffID != digest.FromBytes(tar) || l.Blob != digest.FromBytes(packed) || l.MediaType != layerTypes[c] {
			t.Errorf("%s: layer %+v", c, l)
		}
		if raw, err := f.Content.ReadAll(e.ID, image.MaxConfig); err != nil || !strings.Contains(string(raw), `"Healthcheck":{"Test":["CMD","true"]}`) {
			t.Errorf("%s: configuration %s, %v", c, raw, err)
		}
		if f.left() != [3]int{3, 0, 1} {
			t.Errorf("%s: on disk: %v", c, f.left())
		}
	}
}

// TestImportRefuses: what is no root file system ends in an error of the right
// class and leaves nothing.
func TestImportRefuses(t *testing.T) {
	tar := tarOf(t, map[string]string{"etc/a": noise(100000, 1)})
	for name, tt := range map[string]struct {
		in    io.Reader
		class errdefs.Class
	}{
		"nothing":      {strings.NewReader(""), errdefs.Invalid},
		"cut off gzip": {bytes.NewReader(pack(t, image.Gzip, tar)[:50000]), errdefs.DataLoss},
		"bzip2":        {strings.NewReader("BZh91AY&SY"), errdefs.NotImplemented},
		"bomb":         {bytes.NewReader(pack(t, image.Gzip, make([]byte, 64<<20))), errdefs.Exhausted},
		"endless":      {io.LimitReader(zeros{}, 1<<40), errdefs.Exhausted},
		"broken pipe":  {io.MultiReader(bytes.NewReader(tar), iotest.ErrReader(io.ErrUnexpectedEOF)), errdefs.DataLoss},
	} {
		f := newFixture(t, Limits{Free: 1 << 20, Ratio: 100, Archive: 8 << 20})
		var config spec.DockerOCIImage
		config.OS = "linux"
		if _, err := f.Import(t.Context(), tt.in, config); !errdefs.Is(err, tt.class) {
			t.Errorf("%s: %v (%v)", name, err, errdefs.ClassOf(err))
		}
		if f.left() != [3]int{} {
			t.Errorf("%s: left on disk: %v", name, f.left())
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
