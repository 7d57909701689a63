package terminal

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseKeys(t *testing.T) {
	for in, want := range map[string]string{
		"ctrl-p,ctrl-q": "\x10\x11",
		"ctrl-@":        "\x00",
		"ctrl-],x":      "\x1dx",
		"CTRL-A":        "\x01",
		"a,b,c":         "abc",
		"ctrl-_":        "\x1f",
	} {
		if got, err := ParseKeys(in); string(got) != want || err != nil {
			t.Errorf("ParseKeys(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "ctrl-", "ctrl-ab", "esc", "a,,b", "ctrl-1"} {
		if got, err := ParseKeys(in); err == nil {
			t.Errorf("ParseKeys(%q) = %q, want an error", in, got)
		}
	}
}

func TestEscapeReader(t *testing.T) {
	for _, test := range []struct {
		name, keys, in, out string
		detached            bool
	}{
		{"no keys come", "\x10\x11", "ls\r", "ls\r", false},
		{"keys end it", "\x10\x11", "ls\r\x10\x11more", "ls\r", true},
		{"half the keys are passed on", "\x10\x11", "\x10x", "\x10x", false},
		{"half the keys, then all", "\x10\x11", "\x10\x10\x11", "\x10", true},
		{"half the keys at the end", "\x10\x11", "a\x10", "a\x10", false},
		{"one key", "q", "abq", "ab", true},
		{"no detach keys", "", "abc", "abc", false},
		{"three keys", "aab", "xaac", "xaac", false},
		{"keys that overlap", "aab", "xaaabz", "xa", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for kind, r := range map[string]io.Reader{
				"at once": strings.NewReader(test.in), "byte by byte": iotest.OneByteReader(strings.NewReader(test.in)),
			} {
				got, err := io.ReadAll(NewEscapeReader(r, []byte(test.keys)))
				if string(got) != test.out || errors.Is(err, ErrDetached) != test.detached {
					t.Errorf("%s: read %q, %v; want %q, detached %t", kind, got, err, test.out, test.detached)
				}
			}
		})
	}
}
