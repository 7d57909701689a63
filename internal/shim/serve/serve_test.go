package serve

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDetach(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		typed      []string
		pass       string
		detach     bool
	}{
		{"no keys", "", []string{"a\x10\x11b"}, "a\x10\x11b", false},
		{"other text", "\x10\x11", []string{"abc", "d"}, "abcd", false},
		{"at once", "\x10\x11", []string{"a\x10\x11b"}, "a", true},
		{"in pieces", "\x10\x11", []string{"a\x10", "\x11b"}, "a", true},
		{"half", "\x10\x11", []string{"a\x10", "b\x11"}, "a\x10b\x11", false},
		{"held back", "\x10\x11", []string{"a\x10"}, "a", false},
		{"the first twice", "\x10\x11", []string{"\x10\x10\x11"}, "\x10", true},
		{"one key", "q", []string{"aq"}, "a", true},
		{"overlap", "aab", []string{"aa", "aa", "b"}, "aa", true},
		{"overlap that fails", "aab", []string{"aac"}, "aac", false},
		{"restart within", "abac", []string{"ababac"}, "ab", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := detacher{keys: []byte(tt.keys)}
			var pass []byte
			var detach bool
			for _, typed := range tt.typed {
				var p []byte
				p, detach = d.feed([]byte(typed))
				pass = append(pass, p...)
			}
			if string(pass) != tt.pass || detach != tt.detach {
				t.Errorf("passed %q, detach %v; want %q, %v", pass, detach, tt.pass, tt.detach)
			}
		})
	}
}

func FuzzDetach(f *testing.F) {
	f.Add([]byte("\x10\x11"), []byte("abc\x10\x10\x11d"), uint(3))
	f.Add([]byte("aabaaa"), []byte("aabaabaaabaaa"), uint(1))
	f.Fuzz(func(t *testing.T, keys, typed []byte, piece uint) {
		d := detacher{keys: keys}
		var pass []byte
		detached := false
		n := int(piece%7) + 1
		for b := typed; len(b) > 0 && !detached; {
			var p []byte
			k := min(n, len(b))
			p, detached = d.feed(bytes.Clone(b[:k]))
			pass = append(pass, p...)
			b = b[k:]
		}
		want, at := typed, -1
		if len(keys) > 0 {
			at = bytes.Index(typed, keys)
		}
		if at >= 0 {
			want = typed[:at]
		}
		held := keys[:d.matched]
		if detached != (at >= 0) || !bytes.Equal(append(pass, held...), want) {
			t.Errorf("keys %q, typed %q: passed %q, holds %q, detached %v", keys, typed, pass, held, detached)
		}
	})
}

func TestLastError(t *testing.T) {
	for _, tt := range []struct{ name, log, want string }{
		{"nothing", "", ""},
		{"logged", `{"level":"warning","msg":"w"}` + "\n" + `{"level":"error","msg":"exec: \"x\": not found"}` + "\n", `exec: "x": not found`},
		{"logged and printed", `{"level":"error","msg":"e"}` + "\nruntime: e\n", "e"},
		{"the last", `{"level":"error","msg":"a"}` + "\n" + `{"level":"error","msg":"b"}`, "b"},
		{"printed", "panic: one\n\ntwo\n", "panic: one; two"},
		{"logged without error", `{"level":"info","msg":"i"}` + "\n", ""},
		{"torn", `{"level":"err`, `{"level":"err`},
	} {
		if got := lastError([]byte(tt.log)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestMemoryCgroup(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       cgroup
	}{
		{"none", "", cgroup{}},
		{"version 2", "0::/lade/x\n", cgroup{"/sys/fs/cgroup/lade/x", true}},
		{"version 1", "3:memory:/a\n2:cpu,cpuacct:/b\n", cgroup{"/sys/fs/cgroup/memory/a", false}},
		{"hybrid", "3:cpuset,memory:/a\n0::/c\n", cgroup{"/sys/fs/cgroup/memory/a", false}},
		{"colons", "0::/a:b\n", cgroup{"/sys/fs/cgroup/a:b", true}},
		{"nonsense", "::\nmemory\n", cgroup{}},
	} {
		if diff := cmp.Diff(tt.want, memoryCgroup([]byte(tt.text)), cmp.AllowUnexported(cgroup{})); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
