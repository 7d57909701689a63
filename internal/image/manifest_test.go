package image

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

var sha = "sha256:" + strings.Repeat("ab", 32)

func manifestJSON(config, layer, extra string) string {
	return fmt.Sprintf(`{"schemaVersion":2%s,"config":{"mediaType":%q,"digest":%q,"size":10},"layers":[{"mediaType":%q,"digest":%q,"size":20}]}`, extra, config, sha, layer, sha)
}

func TestParseManifest(t *testing.T) {
	good := manifestJSON(ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip, "")
	tests := []struct {
		name, raw, announced string
		class                errdefs.Class
		says                 string
	}{
		{"oci", good, ocispec.MediaTypeImageManifest, 255, ""},
		{"not announced", good, "", 255, ""},
		{"docker", manifestJSON(DockerConfig, dockerLayer+".gzip", `,"mediaType":"`+DockerManifest+`"`), DockerManifest, 255, ""},
		{"zstd", manifestJSON(ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerZstd, ""), "", 255, ""},
		{"contradiction", manifestJSON(DockerConfig, dockerLayer, `,"mediaType":"`+DockerManifest+`"`), ocispec.MediaTypeImageManifest, errdefs.DataLoss, "calls itself"},
		{"manifest as index", good, ocispec.MediaTypeImageIndex, errdefs.DataLoss, "fields of another"},
		{"both at once", strings.Replace(good, `"config"`, `"manifests":[],"config"`, 1), ocispec.MediaTypeImageManifest, errdefs.DataLoss, "fields of another"},
		{"foreign layer", manifestJSON(DockerConfig, dockerForeign+".gzip", ""), DockerManifest, errdefs.NotImplemented, "foreign layer"},
		{"nondistributable", manifestJSON(ocispec.MediaTypeImageConfig, ociForeign+"+gzip", ""), "", errdefs.NotImplemented, "foreign layer"},
		{"artifact", manifestJSON("application/vnd.cncf.helm.config.v1+json", "application/x", ""), "", errdefs.NotImplemented, "not a container image"},
		{"bad layer type", manifestJSON(ocispec.MediaTypeImageConfig, "application/zip", ""), "", errdefs.NotImplemented, "not a tar"},
		{"digest climbs", strings.ReplaceAll(good, sha, "sha256:../../../etc/shadow"), "", errdefs.Invalid, "malformed"},
		{"md5", strings.ReplaceAll(good, sha, "md5:d41d8cd98f00b204e9800998ecf8427e"), "", errdefs.Invalid, "sha256"},
		{"negative size", strings.Replace(good, `"size":20`, `"size":-1`, 1), "", errdefs.Invalid, "out of range"},
		{"huge config", strings.Replace(good, `"size":10`, `"size":99999999`, 1), "", errdefs.Exhausted, "configuration"},
		{"schema 1", `{"schemaVersion":1,"fsLayers":[]}`, "", errdefs.NotImplemented, "schema 1"},
		{"other schema", strings.Replace(good, `:2`, `:3`, 1), "", errdefs.DataLoss, "schema version"},
		{"html", `<html>`, "", errdefs.DataLoss, "manifest"},
		{"empty", ``, "", errdefs.DataLoss, "manifest"},
		{"null", `null`, "", errdefs.DataLoss, "schema version"},
		{"many layers", `{"schemaVersion":2,"config":{"mediaType":"` + DockerConfig + `","digest":"` + sha + `"},"layers":[` + strings.Repeat("{},", 600) + `{}]}`, "", errdefs.Exhausted, "layers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseManifest([]byte(tt.raw), tt.announced)
			if tt.class == 255 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errdefs.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v (%v), want %q (%v)", err, errdefs.ClassOf(err), tt.says, tt.class)
			}
		})
	}
}

func TestNewComparesLayers(t *testing.T) {
	m, err := ParseManifest([]byte(manifestJSON(DockerConfig, dockerLayer, "")), "")
	if err != nil {
		t.Fatal(err)
	}
	config := func(n int) []byte {
		raw, err := json.Marshal(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": strings.Fields(strings.Repeat(sha+" ", n))}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	img, err := New(ocispec.Descriptor{Digest: "d"}, m, config(1))
	if err != nil || img.Size != 20 || string(img.ID) != sha {
		t.Errorf("New = %+v, %v", img, err)
	}
	for _, n := range []int{0, 2} {
		if _, err := New(ocispec.Descriptor{}, m, config(n)); !errdefs.Is(err, errdefs.DataLoss) {
			t.Errorf("%d layers: %v", n, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifestJSON(ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip, "")), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"`+sha+`","platform":{"os":"linux"}}]}`), ocispec.MediaTypeImageIndex)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`), "")
	f.Add([]byte(`{"config":{"User":"x"},"rootfs":{"type":"layers","diff_ids":["`+sha+`"]}}`), "")
	f.Fuzz(func(t *testing.T, raw []byte, announced string) {
		m, err1 := ParseManifest(raw, announced)
		ix, err2 := ParseIndex(raw, announced)
		if err1 == nil && err2 == nil {
			t.Fatalf("read as a manifest and as an index: %q", raw)
		}
		if err1 == nil {
			_, _ = New(ocispec.Descriptor{}, m, raw)
		}
		if err2 == nil && len(ix.Manifests) > maxIndex {
			t.Fatal("index beyond its limit")
		}
		_, _ = ParseConfig(raw)
	})
}
