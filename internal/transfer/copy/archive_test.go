package copy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/transfer"
)

// ociArchive writes the layout's image into an archive.
func ociArchive(t *testing.T, from Source, object, tag string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.tar")
	p, err := PackOCI(file)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := Copy(t.Context(), from, p, Options{Object: object, Tag: tag, InOrder: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the archive has its name before it is whole")
	}
	if err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	return file
}

func gzipped(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".gz", b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file + ".gz"
}

// TestOCIArchive: what went into an archive comes out, packed or not, with and
// without a tag; the same image makes the same bytes.
func TestOCIArchive(t *testing.T) {
	from, _ := layout(t)
	index, _ := fill(t, from)
	for _, tag := range []string{"x", ""} {
		a, b := ociArchive(t, from, "both", tag), ociArchive(t, from, "both", tag)
		one, _ := os.ReadFile(a)
		two, _ := os.ReadFile(b)
		if len(one) == 0 || !bytes.Equal(one, two) {
			t.Errorf("tag %q: two archives of one image differ", tag)
		}
		for _, file := range []string{a, gzipped(t, b)} {
			scratch := t.TempDir()
			src, err := OpenOCIArchive(t.Context(), file, ArchiveOptions{Scratch: scratch})
			if err != nil {
				t.Fatal(err)
			}
			to, dir := layout(t)
			got, err := Copy(t.Context(), src, to, Options{Object: tag, Tag: "y"})
			if err != nil || got.Digest != index || count(t, dir) != 8 {
				t.Errorf("%s: %s, %v", file, got.Digest, err)
			}
			if left, _ := os.ReadDir(scratch); len(left) != 0 {
				t.Errorf("the scratch directory holds %v", left)
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

type member struct {
	name, text string
	kind       byte
}

func tarFile(t *testing.T, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.kind, Mode: 0o644, Size: int64(len(m.text))}
		if m.kind == tar.TypeSymlink {
			h.Linkname, h.Size, m.text = m.text, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func table(t *testing.T, all ...dockerImage) member {
	t.Helper()
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return member{dockerTable, string(raw), tar.TypeReg}
}

// TestDockerArchive reads one as docker save wrote it before version 25: with
// layers that are links to those of other images.
func TestDockerArchive(t *testing.T) {
	file := tarFile(t,
		member{"one/layer.tar", "layer", tar.TypeReg}, member{"two/layer.tar", "../one/layer.tar", tar.TypeSymlink},
		member{"one.json", `{"architecture":"amd64"}`, tar.TypeReg}, member{"two.json", `{"architecture":"arm64"}`, tar.TypeReg},
		table(t, dockerImage{"one.json", []string{"x:1", "x:latest"}, []string{"one/layer.tar"}}, dockerImage{"two.json", []string{"x:2"}, []string{"two/layer.tar"}}))
	a, err := OpenDockerArchive(t.Context(), file, ArchiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	to, dir := layout(t)
	for _, name := range []string{"x:1", "x", "docker.io/library/x:2"} {
		if _, err := Copy(t.Context(), a, to, Options{Object: name, Tag: "t"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := count(t, dir); n != 5 { // two manifests, two configurations, one layer
		t.Errorf("%d blobs", n)
	}
	for object, want := range map[string]string{"": "holds 2 images", "x:3": `no image "x:3"`} {
		if _, _, err := a.Manifest(t.Context(), object); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", object, err)
		}
	}
	out := filepath.Join(t.TempDir(), "out.tar")
	p, err := PackDocker(out, "y:1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want, err := Copy(t.Context(), a, p, Options{Object: "x:1", Tag: "1", InOrder: true})
	if err != nil || p.Finish() != nil {
		t.Fatal(err)
	}
	again, err := OpenDockerArchive(t.Context(), out, ArchiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, d, err := again.Manifest(t.Context(), "y:1"); err != nil || d.Digest != want.Digest {
		t.Errorf("came back as %s, %v; want %s", d.Digest, err, want.Digest)
	}
}

// TestArchiveRefuses: archives that are broken or hostile.
func TestArchiveRefuses(t *testing.T) {
	good := table(t, dockerImage{"c", nil, []string{"l"}})
	for name, tt := range map[string]struct {
		members []member
		want    string
	}{
		"no table":     {[]member{{"c", "{}", tar.TypeReg}}, "lacks manifest.json"},
		"lacks layer":  {[]member{good, {"c", "{}", tar.TypeReg}}, `lacks "l"`},
		"twice":        {[]member{good, good}, "twice"},
		"link to link": {[]member{good, {"c", "{}", tar.TypeReg}, {"l", "l", tar.TypeSymlink}}, "link to a link"},
		"link out":     {[]member{good, {"c", "/etc/passwd", tar.TypeSymlink}}, `lacks "c"`},
		"nonsense":     {[]member{{dockerTable, "{", tar.TypeReg}}, "manifest.json"},
		"no name":      {[]member{{"c", "{}", tar.TypeReg}, table(t, dockerImage{"c", []string{"&&"}, nil})}, "manifest.json"},
	} {
		if _, err := OpenDockerArchive(t.Context(), tarFile(t, tt.members...), ArchiveOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	file := tarFile(t, good, member{"c", strings.Repeat("x", 5000), tar.TypeReg}, member{"l", "l", tar.TypeReg})
	if err := os.Truncate(file, 3000); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDockerArchive(t.Context(), file, ArchiveOptions{}); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("truncated: %v", err)
	}
	bomb := gzipped(t, tarFile(t, member{"c", strings.Repeat("\x00", 8<<20), tar.TypeReg}))
	scratch := t.TempDir()
	o := ArchiveOptions{Scratch: scratch, Limits: transfer.Limits{Free: 1 << 20, Ratio: 10}}
	if _, err := OpenDockerArchive(t.Context(), bomb, o); !errdefs.Is(err, errdefs.Exhausted) {
		t.Errorf("bomb: %v", err)
	}
	o.Limits = transfer.Limits{Archive: 1 << 20}
	if _, err := OpenOCIArchive(t.Context(), bomb, o); !errdefs.Is(err, errdefs.Exhausted) {
		t.Errorf("more than the budget: %v", err)
	}
	if left, _ := os.ReadDir(scratch); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	many := make([]member, 20)
	for i := range many {
		many[i] = member{fmt.Sprint(i), "", tar.TypeReg}
	}
	if _, err := OpenOCIArchive(t.Context(), tarFile(t, many...), ArchiveOptions{Limits: transfer.Limits{Entries: 10}}); !errdefs.Is(err, errdefs.Exhausted) {
		t.Errorf("many entries: %v", err)
	}
	if _, err := OpenOCIArchive(t.Context(), t.TempDir(), ArchiveOptions{}); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("a directory: %v", err)
	}
}

// TestArchiveGivenUp: an archive that was not finished leaves the old one and
// nothing else.
func TestArchiveGivenUp(t *testing.T) {
	from, _ := layout(t)
	fill(t, from)
	file := ociArchive(t, from, "artifact", "x")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]spoiled{
		"short": {Source: from, blob: func(r io.Reader) io.Reader { return io.LimitReader(r, 1) }},
		"long":  {Source: from, blob: func(r io.Reader) io.Reader { return io.MultiReader(r, strings.NewReader("more")) }},
	} {
		p, err := PackOCI(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Copy(t.Context(), s, p, Options{Object: "both", Tag: "x"}); !errdefs.Is(err, errdefs.DataLoss) {
			t.Errorf("%s: %v", name, err)
		}
		if p.Finish() == nil {
			t.Errorf("%s: a broken archive was finished", name)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if now, _ := os.ReadFile(file); !bytes.Equal(now, old) {
		t.Error("the old archive is gone")
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestSweep: what a dead copy left goes, what a living one writes stays.
func TestSweep(t *testing.T) {
	l, dir := layout(t)
	dead := filepath.Join(dir, "blobs", "sha256", tempPrefix+"dead")
	if err := os.WriteFile(dead, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".tmp-index.json-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, living, err := createTemp(l.root, "blobs/sha256")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := MakeLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	left, _ := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if len(left) != 1 || left[0].Name() != filepath.Base(living) {
		t.Errorf("left: %v", left)
	}
	if tmp, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(tmp) != 0 {
		t.Errorf("left: %v", tmp)
	}
	archives := t.TempDir()
	if err := os.WriteFile(filepath.Join(archives, tempPrefix+"dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := PackOCI(filepath.Join(archives, "new.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(archives); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCopiesAtOnce: many copies into one layout, which is made by the first.
func TestCopiesAtOnce(t *testing.T) {
	from, _ := layout(t)
	index, _ := fill(t, from)
	dir := filepath.Join(t.TempDir(), "shared")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			to, err := MakeLayout(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer to.Close()
			if got, err := Copy(context.Background(), from, to, Options{Object: "both", Tag: fmt.Sprint("t", i)}); err != nil || got.Digest != index {
				t.Errorf("%s, %v", got.Digest, err)
			}
		})
	}
	wg.Wait()
	l, err := OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if tags, err := l.Tags(); err != nil || len(tags) != 16 || count(t, dir) != 8 {
		t.Errorf("tags %q, %d blobs, %v", tags, count(t, dir), err)
	}
}

func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"c": "{}", "l": "layer", dockerTable: `[{"Config":"c","RepoTags":["x:1"],"Layers":["l"]}]`, ocispec.ImageIndexFile: `{"schemaVersion":2,"manifests":[]}`, ocispec.ImageLayoutFile: "{}"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(text))})
		_, _ = io.WriteString(w, text)
	}
	_ = w.Close()
	f.Add(b.Bytes())
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		o := ArchiveOptions{Scratch: t.TempDir(), Limits: transfer.Limits{Free: 1 << 20, Archive: 1 << 22}}
		if a, err := OpenDockerArchive(t.Context(), file, o); err == nil {
			_, d, err := a.Manifest(t.Context(), "")
			if err == nil && a.derived[d.Digest] == nil {
				t.Errorf("a manifest from nowhere: %s", d.Digest)
			}
			_ = a.Close()
		}
		if a, err := OpenOCIArchive(t.Context(), file, o); err == nil {
			_, _, _ = a.Manifest(t.Context(), "")
			_ = a.Close()
		}
	})
}
