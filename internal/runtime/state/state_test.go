package state

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

func TestEncodeIsJSON(t *testing.T) {
	full := Record{
		OCIVersion: "1.3.0", ID: "a", PID: 7, StartTime: 1 << 63, Bundle: "/b \"\\\n", Rootfs: "/r/ü<&>",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), Annotations: map[string]string{"b": "2", "a": "\x00"}, Owner: 1000, PIDNS: true,
		Resctrl: []string{"/sys/fs/resctrl/a/mon_groups/a", "/sys/fs/resctrl/a"},
		Cgroup:  cgroup.Group{Dirs: []cgroup.Dir{{Path: "/x", V2: true}, {Path: "/y", Controllers: []string{"cpu", "cpuacct"}}}, Unit: "a-b.scope", User: true},
	}
	for _, r := range []Record{full, {}} {
		want, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(r.encode())); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}
}

func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "a-b_c.d+e": true, "": false, ".": false, "..": false, "a/b": false, "a b": false, "ü": false, "\n": false,
	} {
		if err := CheckID(id); (err == nil) != ok {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
}

// FuzzLoad: a record is what it says or is refused by name; what was read is
// written and read again the same.
func FuzzLoad(f *testing.F) {
	full := Record{
		OCIVersion: "1.3.0", ID: "a", PID: 7, StartTime: 9, Bundle: "/b", Rootfs: "/r", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Annotations: map[string]string{"a": "b"}, Cgroup: cgroup.Group{Dirs: []cgroup.Dir{{Path: "/x", V2: true}}},
	}
	for _, s := range []string{string(full.encode()), "{}", "", "null", "[]", `{"pid":-1}`, `{"pid":1e99}`, `{"id":"../.."}`, `{"created":"x"}`, strings.Repeat("[", 1000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := &Dir{ID: "a", Path: t.TempDir()}
		if err := os.WriteFile(dir.file(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := dir.Load()
		if err != nil {
			if !errdefs.Is(err, errdefs.DataLoss) {
				t.Errorf("a record that cannot be read is %v", err)
			}
			return
		}
		want, err := json.Marshal(r)
		if err != nil {
			return // a year that JSON has no words for
		}
		if got := string(r.encode()); got != string(want) {
			t.Errorf("written as\n%s, not\n%s", got, want)
		}
		_ = r.Alive()
	})
}
