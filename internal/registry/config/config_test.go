package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

const some = `
unqualified-search-registries = ["quay.io", "docker.io"]
[aliases]
"tool" = "ghcr.io/team/tool"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example"
insecure = true
pull-from-mirror = "tag-only"
[[registry]]
prefix = "docker.io/secret"
blocked = true
[[registry]]
prefix = "old.example/team"
location = "new.example/archive/team"
insecure = true
[[registry]]
prefix = "old.example/team/one"
location = "one.example/x"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example/y"
[[registry]]
prefix = "*.corp.example"
[[registry.mirror]]
location = "cache.corp.example/all"
[[registry]]
prefix = "host.corp.example"
`

const digest = "@sha256:0123456789012345678901234567890123456789012345678901234567890123"

func show(all []Place) string {
	var s []string
	for _, p := range all {
		t := p.Domain + "/" + p.Path
		if p.Insecure {
			t += "!"
		}
		if p.Mirror {
			t = "(" + t + ")"
		}
		s = append(s, t)
	}
	return strings.Join(s, " ")
}

func files(t *testing.T, texts map[string]string) Paths {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Paths{filepath.Join(dir, "containers"), filepath.Join(dir, "lade")}
}

func TestPlaces(t *testing.T) {
	p := files(t, map[string]string{"containers/registries.conf": some})
	tests := []struct{ ref, want, push string }{
		{"debian:12", "(mirror.example:5000/hub/library/debian) (tags.example/library/debian!) docker.io/library/debian", "docker.io/library/debian"},
		{"debian" + digest, "(mirror.example:5000/hub/library/debian) (digests.example/library/debian) docker.io/library/debian", "docker.io/library/debian"},
		{"secrets/x", "(mirror.example:5000/hub/secrets/x) (tags.example/secrets/x!) docker.io/secrets/x", "docker.io/secrets/x"},
		{"unknown.example/x:1", "unknown.example/x", "unknown.example/x"},
		{"old.example/team/x:1", "new.example/archive/team/x!", "new.example/archive/team/x!"},
		{"old.example/team:1", "new.example/archive/team!", "new.example/archive/team!"},
		{"old.example/teams/x:1", "old.example/teams/x", "old.example/teams/x"},
		{"old.example:5000/team/x:1", "old.example:5000/team/x", "old.example:5000/team/x"},
		{"old.example/team/one/z:1", "one.example/x/z", "one.example/x/z"},
		{"old.example/team/one/z" + digest, "(m.example/y/z) one.example/x/z", "one.example/x/z"},
		{"a.corp.example/p/q:1", "(cache.corp.example/all/p/q) a.corp.example/p/q", "a.corp.example/p/q"},
		{"host.corp.example/p:1", "host.corp.example/p", "host.corp.example/p"},
		{"corp.example/p:1", "corp.example/p", "corp.example/p"},
		{"evilcorp.example/p:1", "evilcorp.example/p", "evilcorp.example/p"},
	}
	for _, tt := range tests {
		ref, err := reference.Parse(tt.ref)
		if err != nil {
			t.Fatal(err)
		}
		pull, err1 := p.Places(ref, false)
		push, err2 := p.Places(ref, true)
		if diff := cmp.Diff([]string{tt.want, tt.push}, []string{show(pull), show(push)}); diff != "" || err1 != nil || err2 != nil {
			t.Errorf("%s: %v, %v (-want +got)\n%s", tt.ref, err1, err2, diff)
		}
	}
	ref, _ := reference.Parse("secret/x")
	if _, err := p.Places(ref, false); !errdefs.Is(err, errdefs.Denied) || !strings.Contains(errdefs.HintOf(err), "containers/registries.conf") {
		t.Errorf("blocked: %v (%s)", err, errdefs.HintOf(err))
	}
}

// TestFiles: later files replace tables of earlier ones, and what is edited
// counts at once.
func TestFiles(t *testing.T) {
	ref, _ := reference.Parse("a.example/x:1")
	p := files(t, map[string]string{
		"containers/registries.conf":          "[[registry]]\nlocation = 'a.example'\nblocked = true",
		"containers/registries.conf.d/b.conf": "[[registry]]\nlocation = 'a.example'\ninsecure = true",
		"containers/registries.conf.d/a.conf": "[[registry]]\nlocation = 'a.example'\nblocked = true",
		"containers/registries.conf.d/c.txt":  "nonsense",
	})
	if got, err := p.Places(ref, false); err != nil || show(got) != "a.example/x!" {
		t.Errorf("%s, %v", show(got), err)
	}
	if err := os.MkdirAll(p.Own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Own+"/registries.conf", []byte("[[registry]]\nprefix='a.example'\nlocation='b.example'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Places(ref, false); err != nil || show(got) != "b.example/x" {
		t.Errorf("%s, %v", show(got), err)
	}
	if got, err := (Paths{}).Places(ref, false); err != nil || show(got) != "a.example/x" {
		t.Errorf("without files: %s, %v", show(got), err)
	}
}

func TestShort(t *testing.T) {
	shared, own := files(t, map[string]string{"containers/registries.conf": some}), files(t, map[string]string{"lade/registries.conf": some})
	for name, want := range map[string]string{
		"tool": "ghcr.io/team/tool", "tool:1": "ghcr.io/team/tool:1", "debian:12": "quay.io/debian:12 docker.io/library/debian:12",
		"docker.io/debian": "", "ghcr.io/x": "", "team/x": "quay.io/team/x docker.io/team/x",
	} {
		all, err := own.Short(name)
		var got []string
		for _, r := range all {
			got = append(got, r.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
		if all, err := shared.Short(name); err != nil || len(all) != 0 {
			t.Errorf("%s by podman's files: %v, %v", name, all, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"[[registry]]\n":                                                                                "neither prefix nor location",
		"[[registry]]\nlocation='https://a.io'":                                                         "scheme",
		"[[registry]]\nlocation='a.io/B'":                                                               "lowercase",
		"[[registry]]\nprefix='*.a.io/b'\nlocation='b.io'":                                              "domain only",
		"[[registry]]\nlocation='a.io'\n[[registry]]\nprefix='a.io/'":                                   "twice",
		"[[registry]]\nlocation='a.io'\n[[registry.mirror]]\nlocation=''":                               "empty",
		"[[registry]]\nlocation='a.io'\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='never'": "pull-from-mirror",
		"[[registry]]\nlocation='a.io'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='all'": "exclude",
		"[registries.search]\nregistries = ['a.io']":             "version 1",
		"[aliases]\n'x' = 'y'":                                   "whole name",
		"[aliases]\n'x' = 'a.io/y:tag'":                          "whole name",
		"unqualified-search-registries = ['a.io/b']":             "no registry",
		"\n\n[[registry]]\nlocation = ":                          "line 4",
		"[[registry]]\nlocation = 5":                             "",
		"[[registry]]\nlocation = '../../etc'":                   "",
		"[[registry]]\nprefix = 'a.io'\nlocation = 'b.io:x/y'":   "",
		"[[registry]]\nprefix = 'localhost'\nlocation = 'a b/c'": "",
	} {
		p := files(t, map[string]string{"lade/registries.conf": text})
		ref, _ := reference.Parse("any.io/x")
		_, err := p.Places(ref, false)
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "registries.conf") {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(some, "docker.io/library/debian:12")
	f.Add("[[registry]]\nlocation='a.io'\n", "a.io/x"+digest)
	f.Add("unqualified-search-registries = ['a.io']\n[aliases]\nx='b.io/y'\n", "x")
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := parse(text)
		if err != nil {
			return
		}
		ref, err := reference.Parse(name)
		if err != nil {
			return
		}
		places, err := p.places(ref, false)
		if err != nil {
			return
		}
		for _, one := range places {
			// A place is as good a name as any: nothing gets into a URL.
			if _, err := reference.ParseName(one.Domain + "/" + one.Path); err != nil {
				t.Fatalf("%s leads to %+v: %v", name, one, err)
			}
		}
	})
}
