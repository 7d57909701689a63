package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/inroot"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// world is a container's root beside a directory of the host that is none of
// the container's business.
type world struct {
	root, host string
	dir        *os.File // the root
}

const token = "the host's secret"

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{root: filepath.Join(tb.TempDir(), "root"), host: tb.TempDir()}
	for _, d := range []string{"srv/dir", "run", "etc"} {
		must(tb, os.MkdirAll(filepath.Join(w.root, d), 0o755))
	}
	must(tb, os.Mkdir(filepath.Join(w.root, "var"), 0o755))
	must(tb, os.Symlink("/run", filepath.Join(w.root, "var/run")))
	must(tb, os.WriteFile(filepath.Join(w.host, "canary"), []byte(token), 0o600))
	var err error
	w.dir, err = os.Open(w.root)
	must(tb, err)
	tb.Cleanup(func() { w.dir.Close() })
	return w
}

// untouched fails the test if anything in the host's directory is not as it was.
func (w *world) untouched(tb testing.TB) {
	tb.Helper()
	entries, err := os.ReadDir(w.host)
	must(tb, err)
	text, err := os.ReadFile(filepath.Join(w.host, "canary"))
	if err != nil || string(text) != token || len(entries) != 1 {
		tb.Fatalf("the host's directory was reached: %v, %q (%v)", entries, text, err)
	}
	st, err := os.Stat(filepath.Join(w.host, "canary"))
	must(tb, err)
	if st.Mode().Perm() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		tb.Fatalf("the canary has become %v", st.Mode())
	}
}

type file struct {
	name string
	kind byte
	text string // of a regular file; the target of a link
}

func archiveOf(tb testing.TB, files ...file) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.kind, Mode: 0o644, Uid: os.Geteuid(), Gid: os.Getegid()}
		if f.kind == tar.TypeReg {
			h.Size = int64(len(f.text))
		} else {
			h.Linkname = f.text
		}
		if f.kind == tar.TypeDir {
			h.Mode = 0o755
		}
		must(tb, w.WriteHeader(h))
		if f.kind == tar.TypeReg {
			_, err := io.WriteString(w, f.text)
			must(tb, err)
		}
	}
	must(tb, w.Close())
	return b.Bytes()
}

func (w *world) read(tb testing.TB, p string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(w.root, p))
	must(tb, err)
	return string(text)
}

// TestWaysOut gives archives that want to leave the root, and their legal
// neighbours.
func TestWaysOut(t *testing.T) {
	w := newWorld(t)
	must(t, os.Symlink(w.host, filepath.Join(w.root, "srv/out")))
	must(t, os.Symlink("../../../../../../.."+w.host, filepath.Join(w.root, "srv/up")))
	must(t, os.Symlink(w.host+"/canary", filepath.Join(w.root, "srv/canary")))
	for name, files := range map[string][]file{
		"dots":              {{"../../../../../.." + w.host + "/new", tar.TypeReg, "x"}},
		"dots in the name":  {{"a/../../b", tar.TypeReg, "x"}},
		"a hard link":       {{"x", tar.TypeLink, "../../../../.." + w.host + "/canary"}},
		"a link to a link":  {{"x", tar.TypeLink, "canary"}, {"x", tar.TypeReg, "changed"}},
		"a link, then more": {{"l", tar.TypeSymlink, w.host}, {"l/new", tar.TypeReg, "x"}},
		"an old link":       {{"out/new", tar.TypeReg, "x"}},
		"an old link up":    {{"up/new", tar.TypeReg, "x"}},
		"the canary itself": {{"canary", tar.TypeReg, "changed"}},
		"an absolute name":  {{w.host + "/new", tar.TypeReg, "x"}},
		"a mode":            {{"l2", tar.TypeSymlink, w.host + "/canary"}, {"l2", tar.TypeSymlink, w.host + "/canary"}},
	} {
		err := Unpack(t.Context(), w.dir, "/srv", bytes.NewReader(archiveOf(t, files...)), Options{})
		w.untouched(t)
		t.Logf("%s: %v", name, err)
	}
	must(t, Unpack(t.Context(), w.dir, "/", bytes.NewReader(archiveOf(t,
		file{"var/run/app/", tar.TypeDir, ""}, file{"var/run/app/pid", tar.TypeReg, "1"}, file{"new/deep/file", tar.TypeReg, "2"},
		file{"var/run/app/again", tar.TypeLink, "var/run/app/pid"},
	)), Options{}))
	if got := w.read(t, "run/app/pid") + w.read(t, "new/deep/file") + w.read(t, "run/app/again"); got != "121" {
		t.Errorf("across /var/run: %q", got)
	}
}

// TestSwapBetween exchanges a directory for a link out between two files of an
// archive: the moment in which a path that was checked leads elsewhere.
func TestSwapBetween(t *testing.T) {
	for name, c := range map[string]struct {
		unpack  func(w *world, r io.Reader) error
		escapes bool
	}{
		"by descriptors": {func(w *world, r io.Reader) error { return Unpack(t.Context(), w.dir, "/srv/dir", r, Options{}) }, false},
		// That the test would see it: a path that is checked, and then used.
		"by path": {func(w *world, r io.Reader) error { return naive(w, r) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, second := archiveOf(t, file{"one", tar.TypeReg, "1"}), archiveOf(t, file{"two", tar.TypeReg, "2"})
			r, in := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := c.unpack(w, r)
				r.CloseWithError(err) // or the rest would wait for a reader
				done <- err
			}()
			// A header and a block of data; the second file's header comes when
			// the first has been made.
			_, err := in.Write(first[:1024])
			must(t, err)
			_, err = in.Write(second[:0])
			must(t, err)
			for _, err := os.Stat(filepath.Join(w.root, "srv/dir/one")); err != nil; _, err = os.Stat(filepath.Join(w.root, "srv/dir/one")) {
				if t.Context().Err() != nil {
					t.Fatal("the first file does not appear")
				}
			}
			must(t, os.Rename(filepath.Join(w.root, "srv/dir"), filepath.Join(w.root, "srv/was")))
			must(t, os.Symlink(w.host, filepath.Join(w.root, "srv/dir")))
			_, sent := in.Write(second)
			must(t, in.Close())
			err = errors.Join(<-done, sent)
			_, reached := os.Stat(filepath.Join(w.host, "two"))
			if (reached == nil) != c.escapes {
				t.Errorf("the host's directory was reached: %v (%v)", reached == nil, err)
			}
		})
	}
}

// naive unpacks as one should not.
func naive(w *world, r io.Reader) error {
	dest, err := filepath.EvalSymlinks(filepath.Join(w.root, "srv/dir"))
	if err != nil || !strings.HasPrefix(dest, w.root) {
		return errors.Join(err, errors.New("outside"))
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dest, h.Name), text, 0o600); err != nil {
			return err
		}
	}
}

// swaps is how often the race tests exchange a directory for a link.
const swaps = 10_000

// swapper exchanges srv/dir and a link to the host's directory as fast as it
// can, until stop is called; it returns how often.
func (w *world) swapper(t *testing.T) (count *atomic.Int64, stop func()) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(w.root, "srv/dir/canary"), []byte("the container's"), 0o600))
	must(t, os.Symlink(w.host, filepath.Join(w.root, "srv/link")))
	count = new(atomic.Int64)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		a, b := filepath.Join(w.root, "srv/dir"), filepath.Join(w.root, "srv/link")
		for {
			select {
			case <-end:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
			count.Add(1)
		}
	}()
	return count, func() { close(end); <-ended }
}

// TestRaceIn unpacks while the directory is exchanged for a link out.
func TestRaceIn(t *testing.T) {
	w := newWorld(t)
	count, stop := w.swapper(t)
	a := archiveOf(t, file{"dir/canary", tar.TypeReg, "written"}, file{"dir/sub/", tar.TypeDir, ""}, file{"dir/sub/file", tar.TypeReg, "x"}, file{"dir/l", tar.TypeLink, "dir/canary"})
	ok := 0
	for count.Load() < swaps {
		if Unpack(t.Context(), w.dir, "/srv", bytes.NewReader(a), Options{}) == nil {
			ok++
		}
		if Unpack(t.Context(), w.dir, "/srv/dir", bytes.NewReader(archiveOf(t, file{"new", tar.TypeReg, "x"})), Options{}) == nil {
			ok++
		}
	}
	stop()
	w.untouched(t)
	t.Logf("%d swaps, %d archives unpacked", count.Load(), ok)
}

// TestRaceOut packs while the directory is exchanged for a link out.
func TestRaceOut(t *testing.T) {
	w := newWorld(t)
	count, stop := w.swapper(t)
	read := 0
	for count.Load() < swaps {
		for _, p := range []string{"/srv", "/srv/dir", "/srv/dir/canary", "/srv/dir/."} {
			f, err := inroot.Link(w.dir, p)
			if err != nil {
				continue
			}
			var b bytes.Buffer
			err = Pack(t.Context(), &b, f, Base(p), IDs{})
			_ = f.Close()
			if err == nil {
				read++
			}
			if bytes.Contains(b.Bytes(), []byte(token)) {
				t.Fatalf("%s after %d swaps: the archive has the host's secret", p, count.Load())
			}
		}
	}
	stop()
	w.untouched(t)
	t.Logf("%d swaps, %d archives packed", count.Load(), read)
}

// TestKinds replaces files by others, or refuses to, in Docker's words.
func TestKinds(t *testing.T) {
	w := newWorld(t)
	must(t, os.WriteFile(filepath.Join(w.root, "srv/file"), []byte("old"), 0o600))
	put := func(keep bool, files ...file) error {
		return Unpack(t.Context(), w.dir, "/srv", bytes.NewReader(archiveOf(t, files...)), Options{KeepKinds: keep})
	}
	for want, f := range map[string]file{
		`cannot overwrite directory "/srv/dir" with non-directory "/srv"`:  {"dir", tar.TypeReg, "x"},
		`cannot overwrite non-directory "/srv/file" with directory "/srv"`: {"file/", tar.TypeDir, ""},
	} {
		if err := put(true, f); !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	must(t, put(true, file{"file", tar.TypeReg, "new"}, file{"dir/", tar.TypeDir, ""}))
	must(t, put(false, file{"file/", tar.TypeDir, ""}, file{"dir", tar.TypeReg, "x"}))
	if got := w.read(t, "srv/dir"); got != "x" {
		t.Errorf("the directory has become %q", got)
	}
	if err := put(false, file{"x", 'V', ""}); err == nil {
		t.Error("an entry of an unknown kind was taken")
	}
	if err := Unpack(t.Context(), w.dir, "/srv", strings.NewReader("no archive at all, and long enough to be taken for one? No."+strings.Repeat("x", 1024)), Options{}); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("no archive: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Unpack(ctx, w.dir, "/srv", bytes.NewReader(archiveOf(t, file{"y", tar.TypeReg, ""})), Options{}); !errdefs.Is(err, errdefs.Cancelled) {
		t.Errorf("nobody waits: %v", err)
	}
}

// TestIDs maps ids, there and back, with capabilities and times.
func TestIDs(t *testing.T) {
	kerneltest.Root(t)
	w := newWorld(t)
	ids := IDs{Base: 1 << 20, Size: 1 << 16}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	caps := string([]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for _, h := range []*tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 999, Gid: 998},
		{Name: "d/suid", Typeflag: tar.TypeReg, Mode: 0o4755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": caps, "SCHILY.xattr.trusted.overlay.opaque": "y"}},
		{Name: "d/far", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 100000, Gid: 5},
	} {
		must(t, tw.WriteHeader(h))
	}
	must(t, tw.Close())
	must(t, Unpack(t.Context(), w.dir, "/srv", bytes.NewReader(b.Bytes()), Options{IDs: ids}))
	type attrs struct {
		Mode     uint32
		UID, GID uint32
	}
	for p, want := range map[string]attrs{
		"d": {syscall.S_IFDIR | 0o1777, 1<<20 + 999, 1<<20 + 998}, "d/suid": {syscall.S_IFREG | 0o4755, 1 << 20, 1 << 20}, "d/far": {syscall.S_IFREG | 0o600, 1 << 20, 1<<20 + 5},
	} {
		s, err := fsat.StatPath(filepath.Join(w.root, "srv", p))
		must(t, err)
		if d := cmp.Diff(want, attrs{s.Mode, s.UID, s.GID}); d != "" {
			t.Errorf("%s: %s", p, d)
		}
		if _, ok := s.Xattrs["trusted.overlay.opaque"]; ok {
			t.Errorf("%s has an attribute that belongs to overlays", p)
		}
	}
	f, err := inroot.Link(w.dir, "/srv/d")
	must(t, err)
	defer f.Close()
	var out, again bytes.Buffer
	must(t, Pack(t.Context(), &out, f, "d", ids))
	must(t, Pack(t.Context(), &again, f, "d", ids))
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same files made two archives")
	}
	got := map[string][2]int{}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		got[h.Name] = [2]int{h.Uid, h.Gid}
		if h.Name == "d/suid" && h.PAXRecords["SCHILY.xattr.security.capability"] != caps {
			t.Errorf("the capabilities have become %x", h.PAXRecords["SCHILY.xattr.security.capability"])
		}
	}
	if d := cmp.Diff(map[string][2]int{"d/": {999, 998}, "d/suid": {0, 0}, "d/far": {0, 5}}, got); d != "" {
		t.Errorf("packed again: %s", d)
	}
	owner := [2]int{33, 44}
	must(t, Unpack(t.Context(), w.dir, "/etc", bytes.NewReader(b.Bytes()), Options{IDs: ids, Owner: &owner}))
	if s, err := fsat.StatPath(filepath.Join(w.root, "etc/d")); err != nil || s.UID != 1<<20+33 || s.GID != 1<<20+44 {
		t.Errorf("given to 33:44 it is %d:%d's (%v)", s.UID, s.GID, err)
	}
}

// TestPack packs each kind of file, and nothing that the kernel makes up.
func TestPack(t *testing.T) {
	kerneltest.Root(t)
	w := newWorld(t)
	must(t, os.WriteFile(filepath.Join(w.root, "srv/file"), []byte("text"), 0o600))
	must(t, os.Link(filepath.Join(w.root, "srv/file"), filepath.Join(w.root, "srv/hard")))
	must(t, os.Symlink("file", filepath.Join(w.root, "srv/soft")))
	must(t, syscall.Mkfifo(filepath.Join(w.root, "srv/pipe"), 0o600))
	must(t, syscall.Mknod(filepath.Join(w.root, "srv/null"), syscall.S_IFCHR|0o666, 1<<8|3))
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(sock)
	must(t, unix.Bind(sock, &unix.SockaddrUnix{Name: filepath.Join(w.root, "srv/socket")}))
	must(t, os.Mkdir(filepath.Join(w.root, "srv/proc"), 0o755))
	must(t, syscall.Mount("proc", filepath.Join(w.root, "srv/proc"), "proc", 0, ""))
	defer func() { must(t, syscall.Unmount(filepath.Join(w.root, "srv/proc"), syscall.MNT_DETACH)) }()
	f, err := inroot.Link(w.dir, "/srv")
	must(t, err)
	defer f.Close()
	var b bytes.Buffer
	must(t, Pack(t.Context(), &b, f, "srv", IDs{}))
	var got []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		got = append(got, string(h.Typeflag)+" "+h.Name+" "+h.Linkname)
	}
	want := []string{"5 srv/ ", "5 srv/dir/ ", "0 srv/file ", "1 srv/hard srv/file", "3 srv/null ", "6 srv/pipe ", "5 srv/proc/ ", "2 srv/soft file"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestBase(t *testing.T) {
	for p, want := range map[string]string{"/a/b": "b", "/a/b/": "b", "/a/b/.": ".", "/": "", "": "", ".": ".", "a": "a", "/.": "."} {
		if got := Base(p); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
}

// FuzzUnpack unpacks whatever comes, and looks at what it must not touch. What
// the kernel does makes the coverage waver: -fuzzminimizetime=1x keeps the
// fuzzer from trying the same thing for ever.
func FuzzUnpack(f *testing.F) {
	f.Add(archiveOf(f, file{"a/b", tar.TypeReg, "x"}, file{"a/c", tar.TypeSymlink, "/"}, file{"a/c/d", tar.TypeReg, "y"}))
	f.Add(archiveOf(f, file{"../x", tar.TypeReg, "x"}))
	f.Add(archiveOf(f, file{"x", tar.TypeLink, "../../canary"}, file{"x", tar.TypeReg, "x"}))
	f.Add(archiveOf(f, file{"d/", tar.TypeDir, ""}, file{"d", tar.TypeSymlink, ".."}, file{"d/d/canary", tar.TypeFifo, ""}))
	// In memory, and one host for all: an execution takes a root and no more.
	top, err := os.MkdirTemp("/dev/shm", "fuzz-unpack")
	must(f, err)
	f.Cleanup(func() { os.RemoveAll(top) })
	w := &world{root: filepath.Join(top, "root"), host: filepath.Join(top, "host")}
	must(f, os.Mkdir(w.host, 0o755))
	must(f, os.WriteFile(filepath.Join(w.host, "canary"), []byte(token), 0o600))
	f.Fuzz(func(t *testing.T, data []byte) {
		if hasHoles(data) {
			t.Skip("may fill the memory")
		}
		must(t, os.MkdirAll(filepath.Join(w.root, "srv"), 0o755))
		must(t, os.Symlink(w.host, filepath.Join(w.root, "srv/a")))
		w.dir, err = os.Open(w.root)
		must(t, err)
		_ = Unpack(t.Context(), w.dir, "/srv", bytes.NewReader(data), Options{})
		must(t, w.dir.Close())
		w.untouched(t)
		must(t, os.RemoveAll(w.root))
	})
}

// hasHoles reports whether an archive speaks of more than it has: sparse files.
func hasHoles(data []byte) bool {
	var total int64
	for t := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := t.Next()
		if err != nil {
			return false
		}
		if total += h.Size; total > 64<<20 {
			return true
		}
	}
}
