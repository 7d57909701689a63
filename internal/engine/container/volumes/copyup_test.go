package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lade/internal/errdefs"
)

// TestCopyUpStaysInImage opens a volume's place in images whose links would
// lead out.
func TestCopyUpStaysInImage(t *testing.T) {
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "canary"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	image := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(image, "real/kept"), 0o755))
	must(os.Symlink(host, filepath.Join(image, "abs")))
	must(os.Symlink("../../../../../.."+host, filepath.Join(image, "up")))
	must(os.Symlink("/real", filepath.Join(image, "inside")))
	must(os.WriteFile(filepath.Join(image, "file"), nil, 0o600))
	root, err := os.Open(image)
	must(err)
	defer root.Close()
	for path, want := range map[string][]string{
		"/abs": nil, "/up": nil, "/../../.." + host: nil, "/nowhere/at/all": nil, "/inside": {"kept"}, "/real": {"kept"},
	} {
		d, err := directoryIn(root, path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if d == nil {
			if want != nil {
				t.Errorf("%s: nothing is there", path)
			}
			continue
		}
		names, err := d.Names()
		if err := errors.Join(err, d.Close()); err != nil {
			t.Error(err)
		}
		if len(names) != len(want) || len(want) > 0 && names[0] != want[0] {
			t.Errorf("%s leads to %v, want %v", path, names, want)
		}
	}
	if _, err := directoryIn(root, "/file"); !errdefs.Is(err, errdefs.Invalid) || err.Error() != "cannot mount volume over existing file, file exists /file" {
		t.Errorf("a file: %v", err)
	}
}
