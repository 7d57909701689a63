package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/test/kerneltest"
)

// layout is an OCI layout with one image, and the tars of its layers.
type layout struct {
	dir, tag string
	tars     []string // files, the lowest first
	ids      []digest.Digest
}

// TestRoundTripCorpus takes layers with all that is odd through the store: the
// tars come back with their digests, and what is mounted is what umoci unpacks.
func TestRoundTripCorpus(t *testing.T) {
	needUmoci(t)
	roundTrip(t, corpusLayout(t))
}

// TestRoundTripDebian does the same with a real Debian in four layers.
func TestRoundTripDebian(t *testing.T) {
	needUmoci(t)
	cache := os.Getenv("LADE_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "lade-test")
	}
	if out, err := exec.Command("../../test/fixture/debian-image", cache).CombinedOutput(); err != nil {
		t.Skipf("no Debian image: %v\n%s", err, out)
	}
	roundTrip(t, debianLayout(t, filepath.Join(cache, "oci")))
}

func needUmoci(t *testing.T) {
	t.Helper()
	kerneltest.Root(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("umoci is not installed")
	}
}

func umoci(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "umoci", args...).CombinedOutput(); err != nil {
		t.Fatalf("umoci %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func roundTrip(t *testing.T, l layout) {
	t.Helper()
	began := time.Now()
	unpacked := filepath.Join(t.TempDir(), "root")
	umoci(t, "raw", "unpack", "--image", l.dir+":"+l.tag, unpacked)
	want := allOf(t, unpacked)
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		for i, file := range l.tars {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Unpack(t.Context(), l.ids[i], f, UnpackOptions{})
			must(t, err, f.Close())
			if s.kind != mount.EROFS {
				continue // keeps no tar
			}
			r, err := s.Tar(l.ids[i])
			if err != nil {
				t.Fatal(err)
			}
			got, err := digest.SHA256.FromReader(r)
			must(t, err, r.Close())
			if got != l.ids[i] {
				t.Errorf("layer %d came back as %s, was %s", i, got, l.ids[i])
			}
		}
		root, err := s.Prepare("c", l.ids, PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sameTree(t, want, allOf(t, mounted(t, root)), began)
		t.Logf("%d entries", len(want))
	})
}

// sameTree compares two trees entry by entry, and tells of the first few that
// differ.
//
// Of a directory in which a later layer changes something without saying
// anything of it, umoci loses the time: it is that of its own work. That one is
// not compared.
func sameTree(t *testing.T, want, got map[string]string, began time.Time) {
	t.Helper()
	differ := 0
	timeless := func(text string) string {
		words := strings.SplitN(text, " ", 4)
		words[2] = ""
		return strings.Join(words, " ")
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		seconds := int64(0)
		_, _ = fmt.Sscanf(want[p], "4%o %d:%d %d", new(int), new(int), new(int), &seconds)
		if seconds >= began.Unix() && got[p] != "" && timeless(want[p]) == timeless(got[p]) {
			delete(got, p)
			continue
		}
		if want[p] != got[p] {
			if differ++; differ <= 10 {
				t.Errorf("%.200q\n umoci: %s\n  lade: %s", p, want[p], got[p])
			}
		}
		delete(got, p)
	}
	for p, text := range got {
		if differ++; differ <= 10 {
			t.Errorf("%.200q is not there for umoci: %s", p, text)
		}
	}
	if differ > 10 {
		t.Errorf("%d entries differ", differ)
	}
}

// allOf describes each file below dir: type, mode, owner, time, device, target,
// size, number of names and the first of them, content, extended attributes.
func allOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	d, err := fsat.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	self, err := d.StatSelf()
	if err != nil {
		t.Fatal(err)
	}
	l := lister{t: t, all: map[string]string{}, first: map[[2]uint64]string{}}
	l.all["."] = l.attributes(self)
	l.dir(d, "")
	return l.all
}

type lister struct {
	t     *testing.T
	all   map[string]string
	first map[[2]uint64]string
}

func (l lister) attributes(st fsat.Stat) string {
	text := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.UID, st.GID, st.Seconds, st.Nanos)
	for _, name := range slices.Sorted(maps.Keys(st.Xattrs)) {
		if name != "security.selinux" && !strings.HasPrefix(name, overlayAttr) {
			text += fmt.Sprintf(" %s=%q", name, st.Xattrs[name])
		}
	}
	return text
}

func (l lister) dir(d *fsat.Dir, at string) {
	l.t.Helper()
	names, err := d.Names()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, name := range names {
		st, err := d.Stat(name)
		if err != nil {
			l.t.Fatal(err)
		}
		n, err := d.Inode(name)
		if err != nil {
			l.t.Fatal(err)
		}
		text := l.attributes(st) + fmt.Sprintf(" dev %d -> %q", st.Device, st.Target)
		if !n.Dir {
			file := [2]uint64{n.Device, n.Number}
			if _, ok := l.first[file]; !ok {
				l.first[file] = at + name
			}
			text += fmt.Sprintf(" size %d", st.Size)
			// A link to a lower layer's file is a copy (see layer.Supplement):
			// that they are one file is what layers cannot keep.
			if !strings.HasPrefix(at, "across/") {
				text += fmt.Sprintf(" x%d is %q", n.Links, l.first[file])
			}
		}
		switch st.Mode & typeMask {
		case typeDir:
			sub, err := d.OpenDir(name)
			if err != nil {
				l.t.Fatal(err)
			}
			l.dir(sub, at+name+"/")
			must(l.t, sub.Close())
		case typeRegular:
			f, err := d.OpenFile(name)
			if err != nil {
				l.t.Fatal(err)
			}
			h := sha256.New()
			_, err = io.Copy(h, f)
			must(l.t, err, f.Close())
			text += fmt.Sprintf(" %x", h.Sum(nil))
		}
		l.all[at+name] = text
	}
}

// debianLayout unpacks the layers of the image in a layout.
func debianLayout(t *testing.T, dir string) layout {
	t.Helper()
	read := func(path string, v any) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	blob := func(d digest.Digest) string { return filepath.Join(dir, "blobs", "sha256", d.Encoded()) }
	var index ocispec.Index
	var m ocispec.Manifest
	var image ocispec.Image
	read(filepath.Join(dir, "index.json"), &index)
	read(blob(index.Manifests[0].Digest), &m)
	read(blob(m.Config.Digest), &image)
	l := layout{dir: dir, tag: index.Manifests[0].Annotations[ocispec.AnnotationRefName], ids: image.RootFS.DiffIDs}
	for i, d := range m.Layers {
		packed, err := os.Open(blob(d.Digest))
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(f, z)
		must(t, err, f.Close(), packed.Close())
		l.tars = append(l.tars, f.Name())
	}
	return l
}

// corpusLayout has umoci make an image of the corpus.
func corpusLayout(t *testing.T) layout {
	t.Helper()
	l := layout{dir: filepath.Join(t.TempDir(), "oci"), tag: "corpus"}
	umoci(t, "init", "--layout", l.dir)
	umoci(t, "new", "--image", l.dir+":"+l.tag)
	for i, make := range []func(*odd){lowest, middle, highest} {
		o := newOdd(t)
		make(o)
		must(t, o.tar.Close())
		file := filepath.Join(t.TempDir(), fmt.Sprint(i))
		must(t, os.WriteFile(file, o.b.Bytes(), 0o600))
		umoci(t, "raw", "add-layer", "--image", l.dir+":"+l.tag, file)
		l.tars, l.ids = append(l.tars, file), append(l.ids, digest.FromBytes(o.b.Bytes()))
	}
	return l
}

// odd writes the tar of a layer.
type odd struct {
	t   *testing.T
	b   bytes.Buffer
	tar *tar.Writer
}

func newOdd(t *testing.T) *odd {
	t.Helper()
	o := &odd{t: t}
	o.tar = tar.NewWriter(&o.b)
	return o
}

func (o *odd) add(h tar.Header, content string) {
	o.t.Helper()
	h.Size = int64(len(content))
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	if h.ModTime.IsZero() {
		h.ModTime = time.Unix(1700000000, 123456789)
	}
	h.Format = tar.FormatPAX
	must(o.t, o.tar.WriteHeader(&h))
	_, err := io.WriteString(o.tar, content)
	must(o.t, err)
}

func (o *odd) dir(name string) {
	o.t.Helper()
	o.add(tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
}

func (o *odd) xattr(name, key, value string) {
	o.t.Helper()
	o.add(tar.Header{Name: name, PAXRecords: map[string]string{"SCHILY.xattr." + key: value}}, name)
}

const (
	deep       = 200
	inOne      = 1000
	netRaw     = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	accessList = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x07\x00\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
)

func lowest(o *odd) {
	o.add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	for _, name := range []string{"links", "across", "gone", "opaque", "opaque/old", "xattrs", "modes", "special", "names", "many", "times", "swapped"} {
		o.dir(name)
	}
	o.add(tar.Header{Name: "links/first"}, "shared by layers")
	o.add(tar.Header{Name: "links/second", Typeflag: tar.TypeLink, Linkname: "links/first"}, "")
	o.add(tar.Header{Name: "across/first"}, "linked by other layers")
	o.add(tar.Header{Name: "links/soft", Typeflag: tar.TypeSymlink, Linkname: "../../nowhere"}, "")
	o.add(tar.Header{Name: "gone/file"}, "x")
	o.add(tar.Header{Name: "gone/stays"}, "x")
	o.add(tar.Header{Name: "opaque/old/file"}, "x")
	o.add(tar.Header{Name: "swapped/file"}, "was in a directory")
	o.xattr("xattrs/capable", "security.capability", netRaw)
	o.add(tar.Header{Name: "xattrs/listed", Mode: 0o640, PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_access": accessList}}, "x")
	o.xattr("xattrs/user", "user.bytes", "\x00\xff\n=")
	for _, m := range []int64{0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o1} {
		o.add(tar.Header{Name: fmt.Sprintf("modes/%o", m), Mode: m, Uid: 1000, Gid: 3_000_000_000}, "x")
	}
	o.add(tar.Header{Name: "special/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	o.add(tar.Header{Name: "special/disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8, Devminor: 300}, "")
	o.add(tar.Header{Name: "special/pipe", Typeflag: tar.TypeFifo, Mode: 0o622}, "")
	for i, tm := range []time.Time{time.Unix(0, 1), time.Unix(1<<33, 999_999_999), time.Unix(1, 0)} {
		o.add(tar.Header{Name: fmt.Sprintf("times/%d", i), ModTime: tm}, "x")
	}
	for _, name := range []string{strings.Repeat("n", 255), "\xff\xfe", "caf\xe9", "new\nline", "-rf", " ", "ü"} {
		o.add(tar.Header{Name: "names/" + name}, name)
	}
	path := "names"
	for range deep {
		path += "/d"
		o.dir(path)
	}
	o.add(tar.Header{Name: path + "/end"}, "deep")
	for i := range inOne {
		o.add(tar.Header{Name: fmt.Sprintf("many/%06d", i)}, "")
	}
}

func middle(o *odd) {
	o.add(tar.Header{Name: "across/second", Typeflag: tar.TypeLink, Linkname: "across/first"}, "")
	o.dir("links")
	o.add(tar.Header{Name: "links/third"}, "of its own layer")
	o.dir("gone")
	o.add(tar.Header{Name: "gone/.wh.file"}, "")
	o.dir("opaque")
	o.add(tar.Header{Name: "opaque/.wh..wh..opq"}, "")
	o.add(tar.Header{Name: "opaque/new"}, "y")
	o.add(tar.Header{Name: ".wh.swapped"}, "")
	o.add(tar.Header{Name: "swapped"}, "now a file")
	o.dir("many")
	o.add(tar.Header{Name: "many/.wh.000007"}, "")
	o.add(tar.Header{Name: "many/000008", Mode: 0o600}, "replaced")
}

func highest(o *odd) {
	o.add(tar.Header{Name: "across/third", Typeflag: tar.TypeLink, Linkname: "across/second"}, "")
	o.dir("xattrs")
	o.xattr("xattrs/user", "user.other", "of the highest layer")
	o.dir("opaque")
	o.add(tar.Header{Name: "opaque/.wh.new"}, "")
	o.add(tar.Header{Name: "opaque/newer", Uid: 7, Gid: 8}, "z")
}

// TestRoundTripAlone takes through the store what umoci cannot unpack (sparse
// files), or not in the time of a test (100,000 files in a directory).
func TestRoundTripAlone(t *testing.T) {
	kerneltest.Root(t)
	const files = 100_000
	o := newOdd(t)
	for i := range files {
		o.add(tar.Header{Name: fmt.Sprintf("many/%06d", i)}, "")
	}
	o.sparse()
	must(t, o.tar.Close())
	id := digest.FromBytes(o.b.Bytes())
	s := open(t, t.TempDir(), mount.EROFS)
	_, err := s.Unpack(t.Context(), id, bytes.NewReader(o.b.Bytes()), UnpackOptions{})
	must(t, err)
	r, err := s.Tar(id)
	must(t, err)
	got, err := digest.SHA256.FromReader(r)
	must(t, err, r.Close())
	if got != id {
		t.Errorf("came back as %s, was %s", got, id)
	}
	root, err := s.Prepare("c", []digest.Digest{id}, PrepareOptions{ReadOnly: true})
	must(t, err)
	at := mounted(t, root)
	names, err := os.ReadDir(filepath.Join(at, "many"))
	if err != nil || len(names) != files {
		t.Errorf("%d files of %d; %v", len(names), files, err)
	}
	for _, e := range []os.DirEntry{names[0], names[files/2], names[files-1]} {
		if _, err := e.Info(); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(at, "sparse"))
	if err != nil || len(b) != 8<<20 || b[4<<20] != 'x' || bytes.Count(b, []byte{0}) != len(b)-1 {
		t.Errorf("the sparse file has %d bytes; %v", len(b), err)
	}
}

// sparse adds a file of 8 MiB with one byte in the middle, as GNU tar writes it.
func (o *odd) sparse() {
	dir := o.t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		o.t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("x"), 4<<20)
	must(o.t, err, f.Truncate(8<<20), f.Close(), os.Chtimes(f.Name(), time.Unix(1, 5), time.Unix(1, 5)))
	out, err := exec.Command("tar", "-b", "1", "--format=pax", "--sparse", "--sparse-version=0.1", "-C", dir, "-cf", "-", "sparse").Output()
	if err != nil {
		o.t.Fatal(err)
	}
	must(o.t, o.tar.Flush())
	o.b.Write(out[:len(out)-1024]) // without the end of an archive
}
