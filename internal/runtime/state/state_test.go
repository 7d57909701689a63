package state

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
