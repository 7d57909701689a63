package layer

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lade/internal/linux/mount"
	"lade/test/kerneltest"
)

// mountTar makes a layer of a tar and mounts it. It returns where, in either
// form.
func mountTar(t *testing.T, kind mount.LayerKind, tarFile string) string {
	t.Helper()
	src, err := os.Open(tarFile)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dir, at := t.TempDir(), t.TempDir()
	l := mount.Layer{Path: filepath.Join(dir, "layer.erofs"), Kind: kind}
	if kind == mount.EROFS {
		f, err := os.OpenFile(l.Path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := WriteEROFS(t.Context(), f, src, Options{}); err != nil {
			t.Fatal(err)
		}
	} else {
		if _, err := WriteDirectory(t.Context(), dir, src, Options{}); err != nil {
			t.Fatal(err)
		}
		l.Path = filepath.Join(dir, DiffDir)
	}
	root := mount.Root{Layers: []mount.Layer{l}}
	if err := root.Mount(at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.Unmount(at); err != nil {
			t.Error(err)
		}
	})
	return at
}

// everything returns all that the kernel says of a tree, with the inodes that
// have several names told apart.
func everything(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, err := entryAt(p)
		if err != nil {
			return err
		}
		delete(e.Xattrs, "security.selinux")
		text, err := describe(directory(""), e)
		if err != nil {
			return err
		}
		if e.Type == typeSymlink || e.Type == typeRegular || e.Type == typeDir {
			text += fmt.Sprintf(" mode %o size %d", e.Mode, e.Size)
		}
		if e.IsDir() {
			// File systems differ in what size a directory has.
			text = strings.TrimSuffix(text, fmt.Sprintf(" size %d", e.Size)) + fmt.Sprintf(" x%d", e.Links)
		}
		m[strings.TrimPrefix(p, dir)] = fmt.Sprintf("%s %d.%09d", text, e.Seconds, e.Nanos)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// reference unpacks a tar with GNU tar.
func reference(t *testing.T, tarFile string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf", tarFile, "-C", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return everything(t, dir)
}

func compare(t *testing.T, tarFile string) {
	t.Helper()
	want := reference(t, tarFile)
	for _, kind := range []mount.LayerKind{mount.EROFS, mount.Directory} {
		t.Run(string(kind), func(t *testing.T) {
			got := everything(t, mountTar(t, kind, tarFile))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-GNU tar +layer:\n%.5000s", diff)
			}
			t.Logf("%d entries", len(got))
		})
	}
}

// acl is a POSIX ACL as the kernel has it: u::rw-,u:7:r--,g::r--,m::r--,o::---.
func acl() string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, 1<<32 - 1}, {2, 4, 7}, {4, 4, 1<<32 - 1}, {16, 4, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}

// fileCap is cap_net_raw=ep as the kernel has it.
const fileCap = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// TestContract compares a layer with everything in it with GNU tar's work.
func TestContract(t *testing.T) {
	kerneltest.Root(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.Size = int64(len(content))
		h.Format = tar.FormatPAX
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 123456789)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	dir := func(name string) { add(tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, "") }
	add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 1, Gid: 2}, "")
	dir("files/")
	for _, n := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 100000, 1<<20 + 7, 3 << 20} {
		add(tar.Header{Name: fmt.Sprintf("files/%d", n), Mode: 0o644}, strings.Repeat("0123456789abcdef\n", n/17+1)[:n])
	}
	dir("modes/")
	for _, m := range []int64{0o1, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o400} {
		add(tar.Header{Name: fmt.Sprintf("modes/%o", m), Mode: m, Uid: 1000, Gid: 4000000000}, "x")
		add(tar.Header{Name: fmt.Sprintf("modes/d%o", m), Typeflag: tar.TypeDir, Mode: m, Uid: 70000}, "")
	}
	dir("times/")
	for _, tm := range []time.Time{time.Unix(0, 0), time.Unix(-1, 999999999), time.Unix(1<<32, 1), time.Unix(1, 100)} {
		add(tar.Header{Name: fmt.Sprintf("times/%d", tm.UnixNano()), Mode: 0o644, ModTime: tm}, "t")
	}
	dir("links/")
	for _, n := range []int{1, 100, 400, 447, 448, 449, 512, 1000, 4000} {
		add(tar.Header{Name: fmt.Sprintf("links/s%d", n), Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", min(n, 255)) + strings.Repeat("/t", max(0, n-255)/2), Mode: 0o777}, "")
	}
	add(tar.Header{Name: "links/h1", Typeflag: tar.TypeLink, Linkname: "files/4097"}, "")
	add(tar.Header{Name: "links/h2", Typeflag: tar.TypeLink, Linkname: "./links/h1"}, "")
	add(tar.Header{Name: "links/hs", Typeflag: tar.TypeLink, Linkname: "links/s100"}, "")
	dir("special/")
	add(tar.Header{Name: "special/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	add(tar.Header{Name: "special/big", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 300, Devminor: 70000}, "")
	add(tar.Header{Name: "special/fifo", Typeflag: tar.TypeFifo, Mode: 0o640}, "")
	dir("xattrs/")
	for name, records := range map[string]map[string]string{
		"user": {"user.a": "1", "user.empty": "", "user.bytes": "\x00\xff\n="}, "cap": {capXattr: fileCap},
		"trusted": {"trusted.a": "x"}, "acl": {aclXattr: acl()}, "many": {"user.1": strings.Repeat("x", 1000), "user.2": strings.Repeat("y", 1000)},
	} {
		h := tar.Header{Name: "xattrs/" + name, Mode: 0o644, PAXRecords: map[string]string{}}
		for k, v := range records {
			h.PAXRecords[paxXattr+k] = v
		}
		if name == "acl" {
			h.Mode = 0o640
		}
		add(h, "x")
		h.Name, h.Typeflag = "xattrs/d"+name, tar.TypeDir
		if name == "cap" {
			continue
		}
		add(h, "")
	}
	dir("names/")
	for i := range 40 {
		dir("names/" + strings.Repeat("d/", i+1))
	}
	for _, n := range []string{strings.Repeat("n", 255), "\xff\xfe", " ", "-", "!", "\x01", "ü", strings.Repeat("d/", 40) + strings.Repeat("f", 200)} {
		add(tar.Header{Name: "names/" + n, Mode: 0o644}, n)
	}
	dir("names/" + strings.Repeat("d/", 40)) // GNU tar forgets the time of this one
	for i := range 3000 {
		if i == 0 {
			dir("many/")
		}
		add(tar.Header{Name: fmt.Sprintf("many/%d%s", i, strings.Repeat("x", i%250)), Mode: 0o644}, "")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	compare(t, file)
}

// TestSparse has GNU tar write sparse files in all its forms.
func TestSparse(t *testing.T) {
	kerneltest.Root(t)
	dir := t.TempDir()
	for name, parts := range map[string]map[int64]string{
		"hole":   {},
		"start":  {0: "at the start"},
		"end":    {10<<20 - 3: "end"},
		"middle": {5<<20 + 100: strings.Repeat("middle", 2000)},
		"many":   {4096: "a", 16384: "b", 20480: "c", 1 << 20: strings.Repeat("d", 8192), 9 << 20: "e"},
	} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(10 << 20); err != nil {
			t.Fatal(err)
		}
		for at, s := range parts {
			if _, err := f.WriteAt([]byte(s), at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	huge, err := os.OpenFile(filepath.Join(dir, "z-huge"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := huge.WriteAt([]byte("x"), 1<<30); err != nil {
		t.Fatal(err)
	}
	_ = huge.Close()
	for _, format := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tar")
			args := append(format, "-S", "-cf", file, "--exclude=z-huge", "-C", dir, ".")
			if out, err := exec.CommandContext(t.Context(), "tar", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			compare(t, file)
		})
	}
	t.Run("huge", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "tar")
		if out, err := exec.CommandContext(t.Context(), "tar", "-S", "-cf", file, "-C", dir, "z-huge").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, kind := range []mount.LayerKind{mount.EROFS, mount.Directory} {
			f, err := os.Open(filepath.Join(mountTar(t, kind, file), "z-huge"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := make([]byte, 3)
			if n, err := f.ReadAt(b, 1<<30-1); n != 2 || b[0] != 0 || b[1] != 'x' {
				t.Errorf("%s: read %q, %v", kind, b[:n], err)
			}
		}
	})
}

// TestKernelReadsCorpus mounts what the hostile tars make: what the kernel sees
// is what our own reader sees.
func TestKernelReadsCorpus(t *testing.T) {
	kerneltest.Root(t)
	img := filepath.Join(t.TempDir(), "layer.erofs")
	at := t.TempDir()
	root := mount.Root{Layers: []mount.Layer{{Path: img, Kind: mount.EROFS}}}
	mounted := 0
	for _, h := range corpus() {
		if h.err != "" {
			continue
		}
		f := &memory{}
		if _, err := WriteEROFS(t.Context(), f, strings.NewReader(h.tar), Options{}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(img, f.b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := root.Mount(at); err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
		got := everything(t, at)
		if err := mount.Unmount(at); err != nil {
			t.Fatal(err)
		}
		v, err := OpenImage(f)
		if err != nil {
			t.Fatal(err)
		}
		list, err := listView(v)
		if err != nil {
			t.Fatal(err)
		}
		count := 1
		for p, text := range list {
			if p == "." || strings.HasPrefix(p, "pending ") {
				continue
			}
			count++
			if text = strings.TrimSuffix(text, " opaque"); text != "whiteout" && len(text) < 100 && !strings.HasPrefix(got["/"+p], strings.TrimSuffix(text, " opaque")) {
				t.Errorf("%s: %s is %q to the kernel, want %q", h.name, p, got["/"+p], text)
			}
		}
		if len(got) != count {
			t.Errorf("%s: the kernel sees %d files, want %d", h.name, len(got), count)
		}
		mounted++
	}
	t.Logf("%d images", mounted)
}

// TestDebian compares a whole root with GNU tar's work. LADE_TEST_DEBIAN is the
// path of its tar, for example from: mmdebstrap --variant=minbase bookworm X.tar
func TestDebian(t *testing.T) {
	kerneltest.Root(t)
	file := os.Getenv("LADE_TEST_DEBIAN")
	if file == "" {
		t.Skip("LADE_TEST_DEBIAN names no tar")
	}
	compare(t, file)
}
