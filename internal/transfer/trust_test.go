package transfer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/registry/policy"
)

// TestTrust: what the policy refuses leaves nothing, whichever way it comes.
func TestTrust(t *testing.T) {
	reg := newRegistry(t)
	reg.image("tag", "amd64", image.Gzip, tarOf(t, map[string]string{"a": "a"}))
	path := filepath.Join(t.TempDir(), "policy.json")
	f := newFixture(t, Limits{})
	f.Trust = policy.Files{path}
	rules := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive := tarOf(t, dockerArchive(t, []string{"x:1"}, tarOf(t, map[string]string{"b": "b"})))
	rules(`{"default":[{"type":"reject"}]}`)
	if _, _, err := f.pull(reg.url + "/x:tag"); !errdefs.Is(err, errdefs.Denied) || !strings.Contains(err.Error(), "the rule reject for the default in "+path) {
		t.Errorf("pull: %v", err)
	}
	if _, _, err := f.load(archive); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("load: %v", err)
	}
	rules(`{"default":[{"type":"sigstoreSigned","keyPath":"` + path + `"}]}`)
	if _, _, err := f.pull(reg.url + "/x:tag"); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("pull with a key that is none: %v", err)
	}
	rules("nonsense")
	if _, _, err := f.pull(reg.url + "/x:tag"); err == nil {
		t.Error("a policy that cannot be read allows all")
	}
	if f.left() != [3]int{} {
		t.Errorf("left on disk: %v", f.left())
	}
	rules(`{"default":[{"type":"insecureAcceptAnything"}]}`)
	if _, _, err := f.pull(reg.url + "/x:tag"); err != nil {
		t.Error(err)
	}
	if _, _, err := f.load(archive); err != nil {
		t.Error(err)
	}
}
