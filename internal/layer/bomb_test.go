package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lade/internal/errdefs"
	"lade/test/kerneltest"
)

// endless is a source that goes on as long as more makes more.
type endless struct {
	more func(i int) []byte
	i    int
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	for len(e.rest) == 0 {
		if e.rest = e.more(e.i); e.rest == nil {
			return 0, io.EOF
		}
		e.i++
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func entryBytes(e rawEntry) []byte {
	var b bytes.Buffer
	e.append(&b)
	return b.Bytes()
}

// numbered returns a function that makes the header of an empty file with a
// number in its name, in little time.
func numbered(prefix string) func(i int) []byte {
	h := entryBytes(rawEntry{name: prefix + "0000000"})
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	for _, c := range h[148:156] {
		sum -= int(c)
	}
	sum += 8 * ' '
	return func(i int) []byte {
		h, sum := bytes.Clone(h), sum
		for at := len(prefix) + 6; i > 0; at-- {
			h[at] += byte(i % 10)
			sum += i % 10
			i /= 10
		}
		for at := 153; at >= 148; at-- {
			h[at] = '0' + byte(sum&7)
			sum >>= 3
		}
		return h
	}
}

// peak returns the most memory that this process has held since reset.
func peak(tb testing.TB) int {
	tb.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		tb.Fatal(err)
	}
	return n << 10
}

func resetPeak(tb testing.TB) {
	tb.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		tb.Fatal(err)
	}
}

func disk(tb testing.TB, dir string) int64 {
	tb.Helper()
	sum := int64(0)
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var fi os.FileInfo
			if fi, err = d.Info(); err == nil {
				sum += fi.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}

// TestBombs has sources that would take all memory or all of the disk. Each
// comes to an error that says which limit it hit, within the bounds.
func TestBombs(t *testing.T) {
	kerneltest.Root(t)
	const maxMemory = 256 << 20
	long := strings.Repeat("x", 230)
	zeros := make([]byte, 1<<20)
	tests := []struct {
		name   string
		more   func(i int) []byte
		limits Limits
		err    string
		disk   int64
	}{
		{"ten million entries", numbered("f"), Limits{}, "more than 1048576 entries", 1 << 30},
		{"entries with long names and attributes", func(i int) []byte {
			return entryBytes(rawEntry{name: fmt.Sprintf("%s%d", long, i), pax: map[string]string{paxXattr + "user.x": strconv.Itoa(i)}})
		}, Limits{}, "take more than 67108864 bytes", 1 << 30},
		{"attributes", func(i int) []byte {
			return entryBytes(rawEntry{name: strconv.Itoa(i), pax: map[string]string{paxXattr + "user.x": strings.Repeat("x", 60000)}})
		}, Limits{}, "take more than 67108864 bytes", 1 << 30},
		{"directories that one entry implies", func(i int) []byte {
			return entryBytes(rawEntry{name: strconv.Itoa(i) + strings.Repeat("/d", 900)})
		}, Limits{Entries: 1 << 17}, "more than 131072 entries", 1 << 30},
		{"whiteouts", func(i int) []byte {
			return entryBytes(rawEntry{name: ".wh." + strconv.Itoa(i)})
		}, Limits{Entries: 1 << 17}, "more than 131072 entries", 1 << 30},
		{"the same name", func(int) []byte {
			return entryBytes(rawEntry{name: "f"})
		}, Limits{Entries: 1 << 17}, "more than 131072 entries", 1 << 30},
		{"hard links", func(i int) []byte {
			if i == 0 {
				return entryBytes(rawEntry{name: "f"})
			}
			return entryBytes(rawEntry{kind: '1', name: strconv.Itoa(i), link: "f"})
		}, Limits{Entries: 1 << 17}, "more than 131072 entries", 1 << 30},
		{"symbolic links", func(i int) []byte {
			return entryBytes(rawEntry{kind: '2', name: strconv.Itoa(i), link: strings.Repeat("x/", 2000)})
		}, Limits{}, "take more than 67108864 bytes", 1 << 30},
		{"endless file", func(i int) []byte {
			if i == 0 {
				return entryBytes(rawEntry{name: "f", size: "77777777777"})
			}
			return zeros
		}, Limits{Bytes: 64 << 20}, "files have more than 67108864 bytes", 0},
		{"endless stream", func(i int) []byte {
			if i == 0 {
				return entryBytes(rawEntry{name: "f"})
			}
			return zeros // after the end of the tar
		}, Limits{Bytes: 64 << 20}, "longer than 67108864 bytes", 64 << 20},
		{"many files", func(i int) []byte {
			return append(entryBytes(rawEntry{name: strconv.Itoa(i), size: "4000000"})[:512], zeros...)
		}, Limits{Bytes: 64 << 20}, "than 67108864 bytes", 64 << 20},
		{"sparse file", func(int) []byte {
			return entryBytes(rawEntry{name: "f", pax: map[string]string{
				"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "1099511627776", "GNU.sparse.map": "0,0", "GNU.sparse.numblocks": "1",
			}})
		}, Limits{}, "files have more than 137438953472 bytes", 0},
		{"many sparse files", func(i int) []byte {
			return entryBytes(rawEntry{name: strconv.Itoa(i), pax: map[string]string{
				"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "1073741824", "GNU.sparse.map": "0,0", "GNU.sparse.numblocks": "1",
			}})
		}, Limits{Bytes: 8 << 30}, "files have more than 8589934592 bytes", 1 << 20},
		{"PAX header of a megabyte", func(i int) []byte {
			return entryBytes(rawEntry{name: strconv.Itoa(i), pax: map[string]string{"comment": strings.Repeat("x", 1000<<10)}})
		}, Limits{Bytes: 256 << 20}, "longer than 268435456 bytes", 256 << 20},
		{"PAX header of sparse parts", func(i int) []byte {
			return entryBytes(rawEntry{name: strconv.Itoa(i), pax: map[string]string{
				"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "1000000", "GNU.sparse.map": strings.Repeat("0,0,", 200000) + "0,0",
				"GNU.sparse.numblocks": "200001",
			}})
		}, Limits{Bytes: 64 << 20}, "", 64 << 20},
	}
	for _, tt := range tests {
		for _, form := range []string{"image", "directory"} {
			if form == "directory" && tt.disk == 1<<30 && tt.name != "whiteouts" {
				continue // the same tree as for the image, and a hundred times slower
			}
			t.Run(tt.name+" as "+form, func(t *testing.T) {
				dir := t.TempDir()
				resetPeak(t)
				var err error
				src := &endless{more: tt.more}
				if form == "image" {
					f, openErr := os.OpenFile(filepath.Join(dir, "f"), os.O_CREATE|os.O_RDWR, 0o600)
					if openErr != nil {
						t.Fatal(openErr)
					}
					defer f.Close()
					_, err = WriteEROFS(context.Background(), f, src, Options{Limits: tt.limits})
				} else {
					_, err = WriteDirectory(context.Background(), dir, src, Options{Limits: tt.limits})
				}
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				if c := errdefs.ClassOf(err); c != errdefs.Exhausted && c != errdefs.Invalid {
					t.Errorf("class %v", c)
				}
				used := peak(t)
				if used > maxMemory {
					t.Errorf("%d MiB of memory", used>>20)
				}
				size := disk(t, dir)
				if limit := tt.disk + 8<<20; size > limit {
					t.Errorf("%d MiB on disk, limit %d", size>>20, limit>>20)
				}
				t.Logf("%d MiB of memory, %d MiB on disk, %d pieces: %v", used>>20, size>>20, src.i, err)
			})
		}
	}
}

// TestBombsHaveTeeth takes the limits away: each kind of bomb, the first part of
// it at least, then takes more than it is allowed in TestBombs.
func TestBombsHaveTeeth(t *testing.T) {
	kerneltest.Root(t)
	const none = 1 << 40
	zeros := make([]byte, 1<<20)
	for _, tt := range []struct {
		name         string
		more         func(i int) []byte
		pieces       int
		memory, disk int64 // what must be exceeded
	}{
		{"entries", numbered("f"), 3 << 19, 256 << 20, 0},
		{"attributes", func(i int) []byte {
			return entryBytes(rawEntry{name: strconv.Itoa(i), pax: map[string]string{paxXattr + "user.x": strings.Repeat("x", 60000)}})
		}, 6000, 256 << 20, 0},
		{"endless file", func(i int) []byte {
			if i == 0 {
				return entryBytes(rawEntry{name: "f", size: "77777777777"})
			}
			for k := range 256 {
				zeros[k*4096] = byte(i) | 1 // or it is a hole
			}
			return zeros
		}, 100, 0, 64 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			resetPeak(t)
			src := &endless{more: func(i int) []byte {
				if i == tt.pieces {
					return nil
				}
				return tt.more(i)
			}}
			_, err = WriteEROFS(context.Background(), f, src, Options{Limits: Limits{Bytes: none, Entries: none, Text: none, Xattrs: none}})
			memory, used := int64(peak(t)), disk(t, dir)
			if memory <= tt.memory || used <= tt.disk {
				t.Errorf("without limits it takes %d MiB of memory and %d MiB on disk: the test of the limits proves nothing", memory>>20, used>>20)
			}
			t.Logf("%d MiB of memory, %d MiB on disk, %d pieces: %v", memory>>20, used>>20, src.i, err)
		})
	}
}

// TestLargestLayer makes the largest layer that the default limits allow.
func TestLargestLayer(t *testing.T) {
	kerneltest.Root(t)
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	resetPeak(t)
	n := 1<<20 - 1000
	var directories []func(int) []byte
	for i := range 900 {
		directories = append(directories, numbered(fmt.Sprintf("directory%d/file-with-a-name", i)))
	}
	info, err := WriteEROFS(t.Context(), f, &endless{more: func(i int) []byte {
		if i == n {
			return nil
		}
		return directories[i%900](i)
	}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if used := peak(t); used > 256<<20 {
		t.Errorf("%d MiB of memory", used>>20)
	} else {
		t.Logf("%d entries, %d MiB of memory", info.Entries, used>>20)
	}
}

// TestRangeOfErrors has archive/tar's errors, for which no constant exists, keep
// their class.
func TestRangeOfErrors(t *testing.T) {
	for _, err := range []error{tar.ErrHeader, tar.ErrFieldTooLong, io.ErrUnexpectedEOF} {
		if !errdefs.Is(readError(err), errdefs.Invalid) {
			t.Errorf("%v has class %v", err, errdefs.ClassOf(readError(err)))
		}
	}
	if errdefs.Is(readError(io.ErrClosedPipe), errdefs.Invalid) {
		t.Error("an error of the source is blamed on the tar")
	}
}
