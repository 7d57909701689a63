package feature

import (
	"errors"
	"os"
	"strings"
	"testing"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

func TestCheck(t *testing.T) {
	calls := 0
	boom := errors.New("boom")
	f := New("flight", 99, 1, func() error { calls++; return boom })
	for range 3 {
		err := f.Check()
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || !errors.Is(err, boom) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("error %#v", err)
		}
		if want := "flight needs Linux >= 99.1: boom"; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	if calls != 1 {
		t.Errorf("probed %d times", calls)
	}
	if err := New("walking", 0, 1, func() error { return nil }).Check(); err != nil {
		t.Error(err)
	}
}

func TestProbes(t *testing.T) {
	kerneltest.Root(t)
	dir := t.TempDir()
	for _, f := range []*Feature{EROFSLayers(dir), IDMappedEROFS(dir), IDMappedDirectory(dir), DetachedLayers()} {
		kerneltest.Feature(t, f.Name, f.Major, f.Minor, f.Check())
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestProbeFails(t *testing.T) {
	kerneltest.Root(t)
	err := EROFSLayers("/nonexistent").Check()
	if err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("error %v", err)
	}
}
