package ident

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := New()
		if !IsID(id) || seen[id] || allDigits(Short(id)) {
			t.Fatalf("New() = %q", id)
		}
		seen[id] = true
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "web-1": true, "a.b_c": true, "0a": true,
		"": false, "a": false, "-a": false, ".a": false, "_a": false, "a/b": false, "a b": false, "a\n": false,
		"..": false, "é1": false, strings.Repeat("a", 255): true, strings.Repeat("a", 256): false,
	} {
		if got := IsName(name); got != want {
			t.Errorf("IsName(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestIsPrefix(t *testing.T) {
	for s, want := range map[string]bool{"": false, "0": true, "abc123": true, "ABC": false, "xyz": false, strings.Repeat("a", 65): false} {
		if got := IsPrefix(s); got != want {
			t.Errorf("IsPrefix(%q) = %v, want %v", s, got, want)
		}
	}
}
