package platform

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

func TestParse(t *testing.T) {
	def := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	tests := map[string]string{
		"linux": "linux/amd64", "arm64": "linux/arm64", "aarch64": "linux/arm64", "armhf": "linux/arm/v7", "linux/arm": "linux/arm/v7",
		"linux/arm/6": "linux/arm/v6", "linux/arm64/v8": "linux/arm64", "linux/x86_64": "linux/amd64", "Linux/AMD64/v3": "linux/amd64/v3",
		"windows/amd64": "windows/amd64", "i386": "linux/386", "linux/riscv64": "linux/riscv64", "linux/armel": "linux/arm/v6",
	}
	for in, want := range tests {
		p, err := Parse(in, def)
		if err != nil || Format(p) != want {
			t.Errorf("Parse(%q) = %s, %v; want %s", in, Format(p), err, want)
		}
	}
	for _, in := range []string{"", "/", "linux/", "nonsense", "a/b/c/d", "linux/../x", "linux amd64"} {
		if p, err := Parse(in, def); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Parse(%q) = %v, %v; want invalid", in, p, err)
		}
	}
}

func TestChoose(t *testing.T) {
	desc := func(name, plat string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: name}
		if plat != "" {
			p, err := Parse(plat, ocispec.Platform{})
			if err != nil {
				t.Fatal(err)
			}
			d.Platform = &p
		}
		return d
	}
	attestation := desc("attestation", "")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	tests := []struct {
		want  string
		list  []ocispec.Descriptor
		chose string
	}{
		{"linux/amd64", []ocispec.Descriptor{desc("a", "linux/arm64"), desc("b", "linux/amd64")}, "b"},
		{"linux/amd64", []ocispec.Descriptor{desc("v3", "linux/amd64/v3"), desc("v1", "linux/amd64")}, "v1"},
		{"linux/amd64/v3", []ocispec.Descriptor{desc("v1", "linux/amd64"), desc("v2", "linux/amd64/v2"), desc("v4", "linux/amd64/v4")}, "v2"},
		{"linux/amd64", []ocispec.Descriptor{desc("v3", "linux/amd64/v3")}, ""},
		{"linux/amd64", []ocispec.Descriptor{desc("old", "linux/386"), desc("win", "windows/amd64")}, "old"},
		{"linux/arm64", []ocispec.Descriptor{desc("v6", "linux/arm/v6"), desc("v7", "linux/arm/v7")}, "v7"},
		{"linux/arm/v6", []ocispec.Descriptor{desc("v5", "linux/arm/v5"), desc("v7", "linux/arm/v7")}, "v5"},
		{"linux/arm", []ocispec.Descriptor{desc("64", "linux/arm64")}, ""},
		{"linux/amd64", []ocispec.Descriptor{desc("any", "")}, "any"},
		{"linux/amd64", []ocispec.Descriptor{desc("any", ""), desc("b", "linux/amd64")}, "b"},
		{"linux/amd64", []ocispec.Descriptor{attestation}, ""},
		{"linux/amd64", nil, ""},
	}
	for i, tt := range tests {
		want, err := Parse(tt.want, ocispec.Platform{})
		if err != nil {
			t.Fatal(err)
		}
		got, ok := Choose(want, tt.list)
		if got.MediaType != tt.chose || ok != (tt.chose != "") {
			t.Errorf("%d: %s: chose %q, want %q", i, tt.want, got.MediaType, tt.chose)
		}
	}
}
