package credentials

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// home is a user with nothing yet.
func home(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{"HOME": dir, "XDG_RUNTIME_DIR": dir + "/run"}
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	return New(func(k string) string { return env[k] }), dir
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// keyring is a helper as others write them: it keeps what it is given in files.
func keyring(t *testing.T, home, name string) {
	t.Helper()
	write(t, home+"/bin/docker-credential-"+name, `#!/bin/sh
d=`+home+`/keyring-`+name+`; mkdir -p $d
in=$(cat)
case $1 in
store) k=$(printf %s "$in" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr / _); printf %s "$in" >"$d/$k" ;;
get) cat "$d/$(printf %s "$in" | tr / _)" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f "$d/$(printf %s "$in" | tr / _)" ;;
esac
`, 0o700)
}

func auth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func TestSealed(t *testing.T) {
	s, dir := home(t)
	want := map[string]registry.AuthConfig{
		"ghcr.io":                   {Username: "u", Password: "geheim-p", ServerAddress: "ghcr.io"},
		"localhost:5000":            {IdentityToken: "geheim-t", ServerAddress: "localhost:5000"},
		Hub:                         {Username: "hub", Password: "geheim-h", ServerAddress: Hub},
		"https://[::1]:5000/v2/abc": {Username: "six", Password: "geheim-6", ServerAddress: "[::1]:5000"},
	}
	for server, a := range want {
		a.ServerAddress = server
		if _, err := s.Save(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for server, a := range want {
		got, err := s.Lookup(t.Context(), Domain(server)+"/some/repository")
		if diff := cmp.Diff(a, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", server, err, diff)
		}
	}
	if got, err := s.Lookup(t.Context(), "quay.io/x"); err != nil || got != (registry.AuthConfig{}) {
		t.Errorf("never logged in: %+v, %v", got, err)
	}
	// Nothing is in plain text, and nobody else may read anything.
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || path == dir {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 && strings.Contains(path, "lade") {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if e.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "geheim") || strings.Contains(string(b), auth("u", "geheim-p")) {
			t.Errorf("%s holds a password", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for server := range want {
		if erased, _, err := s.Erase(t.Context(), server); !erased || err != nil {
			t.Errorf("erase %s: %v, %v", server, erased, err)
		}
		if got, err := s.Lookup(t.Context(), Domain(server)); err != nil || got != (registry.AuthConfig{}) {
			t.Errorf("%s after erase: %+v, %v", server, got, err)
		}
	}
}

// TestSealedElsewhere: what was copied to another user or machine, or given
// another registry's name, opens for nobody.
func TestSealedElsewhere(t *testing.T) {
	s, dir := home(t)
	if _, err := s.Save(t.Context(), registry.AuthConfig{Username: "u", Password: "p", ServerAddress: "good.io"}); err != nil {
		t.Fatal(err)
	}
	kept := dir + "/.config/lade/credentials/"
	raw, err := os.ReadFile(kept + "good.io")
	if err != nil {
		t.Fatal(err)
	}
	write(t, kept+"evil.io", string(raw), 0o600)
	write(t, kept+"short.io", `{"Version":1,"Nonce":"","Data":""}`, 0o600)
	write(t, kept+"text.io", "hello", 0o600)
	write(t, kept+"old.io", `{"Version":0}`, 0o600)
	for _, domain := range []string{"evil.io", "short.io", "text.io", "old.io"} {
		got, err := s.Lookup(t.Context(), domain)
		if !errdefs.Is(err, errdefs.DataLoss) || errdefs.HintOf(err) != "log in again" || got != (registry.AuthConfig{}) {
			t.Errorf("%s: %+v, %v", domain, got, err)
		}
	}
	other, otherDir := home(t)
	write(t, otherDir+"/.config/lade/credentials/good.io", string(raw), 0o600)
	if _, err := other.Lookup(t.Context(), "good.io"); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := other.Save(t.Context(), registry.AuthConfig{Username: "x", Password: "y", ServerAddress: "other.io"}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lookup(t.Context(), "good.io"); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("with another key: %v", err)
	}
	// Logging in again mends it.
	if _, err := other.Save(t.Context(), registry.AuthConfig{Username: "u", Password: "new", ServerAddress: "good.io"}); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Lookup(t.Context(), "good.io"); err != nil || got.Password != "new" {
		t.Errorf("after logging in again: %+v, %v", got, err)
	}
}

// TestSaveAtOnce: many logins at the same time, with a key that has to be made.
func TestSaveAtOnce(t *testing.T) {
	s, _ := home(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := s.Save(t.Context(), registry.AuthConfig{Username: "u", Password: fmt.Sprint(i), ServerAddress: fmt.Sprintf("r%d.io", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range 20 {
		if got, err := s.Lookup(t.Context(), fmt.Sprintf("r%d.io", i)); err != nil || got.Password != fmt.Sprint(i) {
			t.Errorf("r%d.io: %+v, %v", i, got, err)
		}
	}
}

func TestFilesOfOthers(t *testing.T) {
	s, dir := home(t)
	keyring(t, dir, "ring")
	keyring(t, dir, "cloud")
	write(t, dir+"/.docker/config.json", `{"auths": {
		"https://index.docker.io/v1/": {"auth": "`+auth("hub", "h:p")+`"},
		"https://old.io/v1/": {"auth": "`+auth("old", "p")+`"},
		"plain.io": {"auth": "`+auth("plain", "p")+`"},
		"token.io": {"auth": "`+auth("00000000-0000-0000-0000-000000000000", "")+`", "identitytoken": "it"},
		"empty.io": {}, "broken.io": {"auth": "%%%"}
	}, "credHelpers": {"cloud.io": "cloud", "gone.io": "gone", "bad.io": "../../bin/sh"}, "HttpHeaders": {"X": "1"}}`, 0o600)
	write(t, dir+"/keyring-cloud/cloud.io", `{"ServerURL":"cloud.io","Username":"<token>","Secret":"ct"}`, 0o600)
	write(t, dir+"/run/containers/auth.json", `{"auths": {
		"quay.io": {"auth": "`+auth("all", "p")+`"}, "quay.io/team": {"auth": "`+auth("team", "p")+`"},
		"quay.io/team/one": {"auth": "`+auth("one", "p")+`"}, "plain.io": {"auth": "`+auth("podman", "p")+`"}
	}}`, 0o600)
	tests := []struct {
		repository string
		want       registry.AuthConfig
		class      errdefs.Class
	}{
		{"docker.io/library/debian", registry.AuthConfig{Username: "hub", Password: "h:p", ServerAddress: Hub}, 255},
		{"old.io/x", registry.AuthConfig{Username: "old", Password: "p", ServerAddress: "old.io"}, 255},
		{"plain.io/x", registry.AuthConfig{Username: "plain", Password: "p", ServerAddress: "plain.io"}, 255},
		{"token.io/x", registry.AuthConfig{Username: "00000000-0000-0000-0000-000000000000", IdentityToken: "it", ServerAddress: "token.io"}, 255},
		{"empty.io/x", registry.AuthConfig{}, 255},
		{"unknown.io/x", registry.AuthConfig{}, 255},
		{"cloud.io/x", registry.AuthConfig{IdentityToken: "ct", ServerAddress: "cloud.io"}, 255},
		{"quay.io/other/x", registry.AuthConfig{Username: "all", Password: "p", ServerAddress: "quay.io"}, 255},
		{"quay.io/team/two", registry.AuthConfig{Username: "team", Password: "p", ServerAddress: "quay.io"}, 255},
		{"quay.io/team/one", registry.AuthConfig{Username: "one", Password: "p", ServerAddress: "quay.io"}, 255},
		{"quay.io/team/one/deep", registry.AuthConfig{Username: "one", Password: "p", ServerAddress: "quay.io"}, 255},
		{"quay.io/teamwork", registry.AuthConfig{Username: "all", Password: "p", ServerAddress: "quay.io"}, 255},
		{"broken.io/x", registry.AuthConfig{}, errdefs.Invalid},
		{"gone.io/x", registry.AuthConfig{}, errdefs.NotFound},
		{"bad.io/x", registry.AuthConfig{}, errdefs.Invalid},
	}
	for _, tt := range tests {
		got, err := s.Lookup(t.Context(), tt.repository)
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.class == 255) || err != nil && !errdefs.Is(err, tt.class) {
			t.Errorf("%s: %v (-want +got)\n%s", tt.repository, err, diff)
		}
	}
	// A login of Lade's own comes first, and logging out leaves docker's other
	// settings as they were.
	if _, err := s.Save(t.Context(), registry.AuthConfig{Username: "lade", Password: "p", ServerAddress: "plain.io"}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Lookup(t.Context(), "plain.io/x"); err != nil || got.Username != "lade" {
		t.Errorf("after login: %+v, %v", got, err)
	}
	erased, left, err := s.Erase(t.Context(), "plain.io")
	if err != nil || !erased || left != dir+"/run/containers/auth.json" {
		t.Errorf("logout: %v, %q, %v", erased, left, err)
	}
	text, err := os.ReadFile(dir + "/.docker/config.json")
	if err != nil || strings.Contains(string(text), "plain.io") || !strings.Contains(string(text), `"X": "1"`) || !strings.Contains(string(text), "old.io") {
		t.Errorf("docker's configuration is now %s, %v", text, err)
	}
	if got, err := s.Lookup(t.Context(), "plain.io/x"); err != nil || got.Username != "podman" {
		t.Errorf("after logout: %+v, %v", got, err)
	}
}

// TestHelperKeeps: with docker's helper for all, that keeps what is given.
func TestHelperKeeps(t *testing.T) {
	s, dir := home(t)
	keyring(t, dir, "ring")
	if _, err := s.Save(t.Context(), registry.AuthConfig{Username: "before", Password: "p", ServerAddress: Hub}); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/.docker/config.json", `{"credsStore": "ring"}`, 0o600)
	where, err := s.Save(t.Context(), registry.AuthConfig{Username: "me", Password: "p", ServerAddress: Hub})
	if err != nil || where != "docker-credential-ring" {
		t.Fatalf("%q, %v", where, err)
	}
	if got, err := s.Lookup(t.Context(), "docker.io/x"); err != nil || got.Username != "me" || got.Password != "p" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := os.Stat(dir + "/keyring-ring/https:__index.docker.io_v1_"); err != nil {
		t.Error(err)
	}
	if erased, _, err := s.Erase(t.Context(), ""); !erased || err != nil {
		t.Errorf("%v, %v", erased, err)
	}
	if erased, _, err := s.Erase(t.Context(), ""); erased || err != nil {
		t.Errorf("a second time: %v, %v", erased, err)
	}
	write(t, dir+"/bin/docker-credential-ring", "#!/bin/sh\necho 'the keyring is locked'; exit 1\n", 0o700)
	if _, err := s.Lookup(t.Context(), "docker.io/x"); !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "the keyring is locked") {
		t.Errorf("a helper that fails: %v", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"a.io":{"auth":"dTpw"}},"credHelpers":{"b.io":"x"}}`))
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{}},"credsStore":""}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := file{filepath.Join(t.TempDir(), "config.json"), os.Getenv}
		if err := os.WriteFile(c.path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		parsed, err := c.read()
		if err != nil || parsed.helper("a.io") != "" {
			return // programs are not run here
		}
		_, _ = c.lookup(t.Context(), "a.io", prefixes("a.io/b/c"))
	})
}
