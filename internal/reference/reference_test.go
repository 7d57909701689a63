package reference

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
)

const (
	hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	sha   = "sha256:" + hex64
)

func TestParse(t *testing.T) {
	tests := []struct {
		in        string
		canonical string
		familiar  string
	}{
		{"debian", "docker.io/library/debian:latest", "debian:latest"},
		{"debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"},
		{"lade/toolbox", "docker.io/lade/toolbox:latest", "lade/toolbox:latest"},
		{"docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"},
		{"127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b:latest"},
		{"[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"},
		{"ghcr.io/a/b/c:v1.2", "ghcr.io/a/b/c:v1.2", "ghcr.io/a/b/c:v1.2"},
		{"debian@" + sha, "docker.io/library/debian@" + sha, "debian@" + sha},
		{"debian:12@" + sha, "docker.io/library/debian:12@" + sha, "debian:12@" + sha},
		{"a@sha512:" + hex64 + hex64, "docker.io/library/a@sha512:" + hex64 + hex64, "a@sha512:" + hex64 + hex64},
		{"foo/bar:5000", "docker.io/foo/bar:5000", "foo/bar:5000"},
		{"cafe", "docker.io/library/cafe:latest", "cafe:latest"},
		{"Host/x", "Host/x:latest", "Host/x:latest"},
	}
	for _, tt := range tests {
		r, err := Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff([]string{tt.canonical, tt.familiar}, []string{r.String(), r.Familiar()}); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "Debian", "a/B", "a:", ":a", "a@", "a@sha256:12", "a//b", "/a", "a/", "-a/b:", "a:..", "a b", "a\x00b", "a\n",
		"../a", "a/../b", "a@sha256:../../" + hex64[:10], "a@md5:0123456789abcdef0123456789abcdef", hex64,
		"a@sha384:" + hex64 + hex64[:32], "a@sha256:" + strings.ToUpper(hex64), strings.Repeat("a", 5000), "http://a/b", "a:" + strings.Repeat("t", 129),
	} {
		if r, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", in, r)
		} else if !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Parse(%q): class %v, want invalid", in, errdefs.ClassOf(err))
		}
	}
}

func TestParseNameKeepsBareNames(t *testing.T) {
	r, err := ParseName("debian")
	if err != nil || r.Tag != "" || r.String() != "docker.io/library/debian" {
		t.Errorf("ParseName = %v, %v", r, err)
	}
}

func TestParseAny(t *testing.T) {
	tests := []struct {
		in     string
		id     digest.Digest
		prefix string
		ref    string
	}{
		{"debian", "", "", "docker.io/library/debian:latest"},
		{"cafe", "", "cafe", "docker.io/library/cafe:latest"},
		{"0123456789ab", "", "0123456789ab", "docker.io/library/0123456789ab:latest"},
		{hex64, sha, hex64, ""},
		{sha, sha, hex64, ""},
		{"sha256:cafe", "", "cafe", ""},
		{"sha256:xyz", "", "", "docker.io/library/sha256:xyz"},
	}
	for _, tt := range tests {
		a, err := ParseAny(tt.in)
		if err != nil {
			t.Errorf("ParseAny(%q): %v", tt.in, err)
			continue
		}
		ref := ""
		if a.HasRef {
			ref = a.Ref.String()
		}
		if a.ID != tt.id || a.IDPrefix != tt.prefix || ref != tt.ref {
			t.Errorf("ParseAny(%q) = %+v", tt.in, a)
		}
	}
	if _, err := ParseAny("A B"); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("ParseAny of nonsense: %v", err)
	}
}

func TestCheckDigest(t *testing.T) {
	for _, good := range []string{sha, "sha512:" + hex64 + hex64} {
		if err := CheckDigest(digest.Digest(good)); err != nil {
			t.Errorf("CheckDigest(%s): %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "sha256", "sha256:", hex64, "sha256:" + hex64[1:], sha + "0", "sha256:../../../../etc/passwd", "SHA256:" + hex64,
		"sha256:" + strings.ToUpper(hex64), "../sha256:" + hex64, "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha512:" + hex64, "sha256:" + hex64[:63] + "/",
	} {
		if err := CheckDigest(digest.Digest(bad)); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("CheckDigest(%q) = %v, want invalid", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"debian", "a/b:c@" + sha, "localhost:5000/x", "[::1]:1/a", "A/b", "sha256:cafe", hex64, "a@sha256:../.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = ParseAny(s)
		r, err := Parse(s)
		if err != nil {
			return
		}
		for _, form := range []string{r.String(), r.Familiar()} {
			again, err := Parse(form)
			if err != nil {
				t.Fatalf("Parse(%q) = %q, which does not parse: %v", s, form, err)
			}
			if again != r {
				t.Fatalf("Parse(%q) = %+v, but through %q %+v", s, r, form, again)
			}
		}
	})
}
