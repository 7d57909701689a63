package table

import (
	"slices"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

func TestFind(t *testing.T) {
	tab := New[string]()
	one, two := "aabb"+strings.Repeat("0", 60), "aacc"+strings.Repeat("0", 60)
	tab.Put(one, "web", "one")
	tab.Put(two, "aabb", "two") // a name goes before the beginning of an id
	if _, err := tab.Reserve("soon", "cc"); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{one: "one", "/web": "one", "web": "one", "aabb": "two", "aabb0": "one", "aac": "two"} {
		if got, err := tab.Find(ref); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
	for ref, class := range map[string]errdefs.Class{"aa": errdefs.Invalid, "": errdefs.NotFound, "soon": errdefs.NotFound, "we": errdefs.NotFound} {
		if got, err := tab.Find(ref); !errdefs.Is(err, class) || got != "" {
			t.Errorf("%q: %q, %v; want %v", ref, got, err, class)
		}
	}
	tab.Drop(one, "web")
	if _, err := tab.Find("web"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("what was dropped is found: %v", err)
	}
	if all := tab.All(); !slices.Equal(all, []string{"two"}) {
		t.Errorf("all: %v", all)
	}
}

func TestNames(t *testing.T) {
	tab := New[int]()
	if name, err := tab.Reserve("/web", "a"); err != nil || name != "web" {
		t.Fatalf("%q, %v", name, err)
	}
	if _, err := tab.Reserve("web", "b"); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("a name twice: %v", err)
	}
	tab.Release("web", "b") // not b's to give
	if _, err := tab.Reserve("web", "b"); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("another's name is given back: %v", err)
	}
	tab.Release("web", "a")
	if _, err := tab.Reserve("web", "b"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"-x", "a b", "ä", "a/b"} {
		if _, err := tab.Reserve(bad, "c"); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	seen := map[string]bool{}
	for range 300 {
		name, err := tab.Reserve("", "d")
		if err != nil || name == "" || seen[name] {
			t.Fatalf("made up: %q, %v", name, err)
		}
		seen[name] = true
	}
}
