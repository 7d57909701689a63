package command_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/runtime/plan/mountopt"
)

// TestFeaturesKnowTheirOptions: every option of mounts that features lists is
// one that is known; what is not goes to the file system as it stands.
func TestFeaturesKnowTheirOptions(t *testing.T) {
	var features struct {
		MountOptions []string `json:"mountOptions"`
	}
	m := newMachine(t, nil)
	if err := json.Unmarshal([]byte(m.must("features")), &features); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(features.MountOptions, "ro") {
		t.Errorf("options %q", features.MountOptions)
	}
	ofFileSystems := []string{"dirsync", "iversion", "lazytime", "mand", "silent", "sync"}
	for _, word := range features.MountOptions {
		o, err := mountopt.Parse(0, &specs.Mount{Destination: "/x", Type: "tmpfs", Source: "tmpfs", Options: []string{word}})
		if err != nil && word != "idmap" && word != "ridmap" { // these are for binds
			t.Errorf("%s: %v", word, err)
		}
		if len(o.Data) > 0 && !slices.Contains(ofFileSystems, word) {
			t.Errorf("%s goes to the file system: %q", word, o.Data)
		}
	}
}
