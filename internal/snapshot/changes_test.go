package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/test/kerneltest"
)

// listing returns what lies below dir with all that can be known of it; files
// with several names are known by the first of them. ids is what is taken off
// owners.
func listing(t *testing.T, dir string, base uint32) map[string]string {
	t.Helper()
	m := map[string]string{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		d, err := fsat.Open(filepath.Dir(p))
		if err != nil {
			return err
		}
		st, err := d.Stat(filepath.Base(p))
		if err = errors.Join(err, d.Close()); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		text := fmt.Sprintf("%o %d:%d %d.%09d dev %d %q", st.Mode, st.UID-base, st.GID-base, st.Seconds, st.Nanos, st.Device, st.Target)
		for _, name := range []string{"user.x", "trusted.x", "security.capability"} {
			if v, ok := st.Xattrs[name]; ok && name != "security.capability" {
				text += fmt.Sprintf(" %s=%q", name, v)
			} else if ok {
				text += fmt.Sprintf(" caps=%x", v[4:20]) // without the root's id
			}
		}
		if st.Mode&syscall.S_IFMT == syscall.S_IFREG {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += " " + string(digest.FromBytes(b))[:20]
		}
		fi, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if s := fi.Sys().(*syscall.Stat_t); s.Nlink > 1 && !fi.IsDir() {
			if f, ok := first[s.Ino]; ok {
				text += " = " + f
			} else {
				first[s.Ino] = rel
			}
		}
		m[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// change does to a root what containers do. Owners are in the container's ids.
func change(t *testing.T, dir string, base uint32) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		must(t, os.WriteFile(at(name), []byte(text), 0o644), os.Lchown(at(name), int(base), int(base)))
	}
	mkdir := func(name string) { must(t, os.Mkdir(at(name), 0o755), os.Lchown(at(name), int(base), int(base))) }
	write("new", "new")
	must(t, os.Link(at("new"), at("another name")), os.Symlink("../up/and/away", at("link")), os.Lchown(at("link"), int(base)+5, int(base)))
	mkdir("dir")
	write("dir/setuid", "#!")
	must(t, os.Lchown(at("dir/setuid"), int(base)+1000, int(base)+1001), os.Chmod(at("dir/setuid"), 0o755|os.ModeSetuid))
	must(t, syscall.Mkfifo(at("dir/pipe"), 0o600), os.Lchown(at("dir/pipe"), int(base), int(base)))
	write("dir/attr", "x")
	must(t, syscall.Setxattr(at("dir/attr"), "user.x", []byte("a\x00b=c"), 0), syscall.Setxattr(at("dir/attr"), "trusted.x", []byte("t"), 0))
	caps := append([]byte{1, 0, 0, 2, 0, 4, 0, 0}, make([]byte, 12)...) // VFS_CAP_REVISION_2, effective, CAP_NET_BIND_SERVICE
	must(t, syscall.Setxattr(at("dir/attr"), "security.capability", caps, 0))
	write("dir/"+strings.Repeat("n", 250), "long")
	write("dir/\xff\xfe not utf-8", "bytes")
	must(t, os.Remove(at("gone")), os.RemoveAll(at("replaced")))
	mkdir("replaced")
	write("replaced/only", "this")
	must(t, os.Chmod(at("kept"), 0o600))
	f, err := os.OpenFile(at("grown"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(strings.Repeat("more ", 100000))
	must(t, err, f.Truncate(1<<20), f.Close())
	must(t, os.Chtimes(at("new"), time.Unix(1, 2), time.Unix(123456789, 987654321)), os.Chtimes(at("dir"), time.Unix(1, 2), time.Unix(5, 6)))
	must(t, os.Chmod(dir, 0o711))
}

// TestChanges: what a container has written, as a layer on top of the same
// layers, is what the container saw, with and without a user namespace.
func TestChanges(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		lower := unpack(t, s, makeTar(t,
			tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "gone", Linkname: "1"}, tar.Header{Name: "kept", Linkname: "2"},
			tar.Header{Name: "grown", Linkname: "3"}, tar.Header{Name: "replaced/", Typeflag: tar.TypeDir, Mode: 0o755},
			tar.Header{Name: "replaced/hidden", Linkname: "4"}, tar.Header{Name: "untouched", Linkname: "5"},
		))
		for _, base := range []uint32{0, 0x30000000} {
			if base != 0 && s.kind == mount.Directory && mount.CanIDMap(s.layers, false) != nil {
				t.Log("directories cannot be idmapped on this file system")
				continue
			}
			o := PrepareOptions{}
			if base != 0 {
				o.UIDMap = []mount.IDMap{{Container: 0, Host: base, Size: 65536}}
				o.GIDMap = o.UIDMap
			}
			id := fmt.Sprintf("c%d", base)
			root, err := s.Prepare(id, lower, o)
			must(t, err)
			saw := mounted(t, root)
			change(t, saw, base)
			want := listing(t, saw, base)

			var first, second bytes.Buffer
			co := ChangesOptions{UIDMap: o.UIDMap, GIDMap: o.GIDMap}
			for _, b := range []*bytes.Buffer{&first, &second} {
				if any, err := s.Changes(t.Context(), id, b, co); err != nil || !any {
					t.Fatal(any, err)
				}
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Error("the same files gave another tar")
			}
			top := unpack(t, s, first.String())
			root, err = s.Prepare(id+"-again", append(lower[:1:1], top...), o)
			must(t, err)
			if diff := cmp.Diff(want, listing(t, mounted(t, root), base)); diff != "" {
				t.Errorf("base %x: %s", base, diff)
			}
		}
	})
}

// TestNoChanges: what the runtime made to mount over is not the container's.
func TestNoChanges(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		var b bytes.Buffer
		if any, err := s.Changes(t.Context(), "never", &b, ChangesOptions{}); any || err != nil {
			t.Error(any, err)
		}
		_, err := s.Prepare("c", unpack(t, s, makeTar(t, tar.Header{Name: "f"})), PrepareOptions{})
		must(t, err)
		upper := filepath.Join(s.containers, "c", upperDir)
		must(t, os.WriteFile(filepath.Join(upper, "hosts"), nil, 0o600))
		if any, err := s.Changes(t.Context(), "c", &b, ChangesOptions{Skip: []string{"/hosts"}}); any || err != nil {
			t.Error(any, err)
		}
		must(t, os.WriteFile(filepath.Join(upper, ".wh.x"), nil, 0o600))
		if _, err := s.Changes(t.Context(), "c", &b, ChangesOptions{}); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("a file that looks like a whiteout: %v", err)
		}
	})
}

// TestChangesFollowNothing: a link in what a container has written leads
// nowhere, be it in the place of a directory.
func TestChangesFollowNothing(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir(), mount.EROFS)
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("canary"), 0o600))
	upper := filepath.Join(s.containers, "c", upperDir)
	must(t, os.MkdirAll(upper, 0o700), os.Symlink(secret, filepath.Join(upper, "file")), os.Symlink(filepath.Dir(secret), filepath.Join(upper, "dir")))
	var b bytes.Buffer
	if _, err := s.Changes(t.Context(), "c", &b, ChangesOptions{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "canary") {
		t.Error("a file of the host is in the layer")
	}
}

// TestChangesOfAccessLists: ids in access control lists are mapped, too.
func TestChangesOfAccessLists(t *testing.T) {
	c := &changes{o: ChangesOptions{UIDMap: []mount.IDMap{{Host: 1000, Size: 10}}, GIDMap: []mount.IDMap{{Host: 2000, Size: 10}}}}
	acl := "\x02\x00\x00\x00" + "\x02\x00\x06\x00\xec\x03\x00\x00" + "\x08\x00\x06\x00\xd3\x07\x00\x00" + "\x10\x00\x04\x00\xff\xff\xff\xff"
	want := "\x02\x00\x00\x00" + "\x02\x00\x06\x00\x04\x00\x00\x00" + "\x08\x00\x06\x00\x03\x00\x00\x00" + "\x10\x00\x04\x00\xff\xff\xff\xff"
	if got := c.acl(acl); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	v3 := "\x01\x00\x00\x03" + strings.Repeat("c", 16) + "\x00\x00\x00\x30"
	if got := c.capabilities(v3); got != "\x01\x00\x00\x02"+strings.Repeat("c", 16) {
		t.Errorf("%x", got)
	}
	if got := c.capabilities("odd"); got != "odd" {
		t.Errorf("%x", got)
	}
}
