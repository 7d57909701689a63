package mountopt_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/runtime/plan/mountopt"
)

// FuzzParse: whatever a mount's options are, they are refused or make sense
// together, and those that nobody knows reach the file system unchanged.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"bind", "rbind ro", "rbind rro nosuid rnosuid", "ro rw", "noatime strictatime relatime", "rshared", "rprivate slave",
		"mode=755 size=65536k", "tmpcopyup", "idmap", "ridmap bind", `context="a,b",x`, `a="`, "sync dirsync lazytime mand iversion", "r", "", "=", "ro=1",
		"uid=0,gid=5,mode=0620", strings.Repeat("lowerdir=/a:", 400),
	} {
		f.Add("tmpfs", s)
		f.Add("bind", s)
	}
	f.Fuzz(func(t *testing.T, kind, options string) {
		m := &specs.Mount{Destination: "/x", Type: kind, Options: strings.Split(options, " ")}
		o, err := mountopt.Parse(0, m)
		if err != nil {
			return
		}
		switch {
		case o.Set&o.Clear&^unix.MOUNT_ATTR__ATIME != 0 || o.RecSet&o.RecClear&^unix.MOUNT_ATTR__ATIME != 0:
			t.Errorf("%q sets and clears one attribute: %#x and %#x, %#x and %#x", options, o.Set, o.Clear, o.RecSet, o.RecClear)
		case o.IDMap && !o.Bind, o.CopyUp && o.Bind, o.Bind && len(o.Data) > 0:
			t.Errorf("%q: %+v cannot be", options, o)
		case o.Readonly != ((o.Set|o.RecSet)&unix.MOUNT_ATTR_RDONLY != 0):
			t.Errorf("%q: read-only or not", options)
		}
		for _, d := range o.Data {
			if !strings.Contains(options, d) {
				t.Errorf("%q: the file system is told %q", options, d)
			}
		}
		if flags, data := o.Flags(); o.Readonly != (flags&unix.MS_RDONLY != 0) || len(data) > 2*len(options)+2 {
			t.Errorf("%q: mount(2) is given %#x, %q", options, flags, data)
		}
	})
}
