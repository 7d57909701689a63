package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/linux/mount"
	"lade/internal/metadata"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/snapshot"
	"lade/internal/transfer"
)

// fixture is a service with everything real but the registry.
type fixture struct {
	*Service
	t       *testing.T
	dir     string
	users   map[string][]string
	running map[string]bool
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), users: map[string][]string{}, running: map[string]bool{}}
	f.open()
	return f
}

// open makes the service, as an engine does when it starts.
func (f *fixture) open() {
	f.t.Helper()
	db, err := metadata.Open(filepath.Join(f.dir, "lade.db"), metadata.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	blobs, err := content.Open(filepath.Join(f.dir, "content"))
	if err != nil {
		f.t.Fatal(err)
	}
	snaps, err := snapshot.Open(f.dir, snapshot.Options{Kind: mount.EROFS})
	if err != nil {
		f.t.Fatal(err)
	}
	layers := imagestore.Snapshots{Store: snaps}
	images := imagestore.New(imagestore.Config{DB: db, Content: blobs, Layers: layers})
	f.t.Cleanup(func() { _ = images.Close() })
	p := platform.Of("linux", "amd64")
	f.Service = New(Config{
		Images: images, Platform: p, Toolbox: filepath.Join(f.dir, "lade-toolbox"),
		Transfer: transfer.New(transfer.Config{Content: blobs, Images: images, Layers: layers, Platform: p}),
		Users:    func(id string) []string { return f.users[id] },
		Running:  func(id string) bool { return f.running[id] },
	})
}

// add puts an image of one file into the store.
func (f *fixture) add(label string, age time.Duration, names ...string) string {
	f.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "label", Mode: 0o644, Size: int64(len(label))}); err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(w, label); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-age)
	config := ocispec.Image{
		Created: &created, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Config:  ocispec.ImageConfig{Labels: map[string]string{"label": label}, Cmd: []string{"sh"}},
		History: []ocispec.History{{CreatedBy: "made"}, {CreatedBy: "CMD sh", EmptyLayer: true}},
	}
	var refs []reference.Reference
	for _, n := range names {
		r, err := reference.Parse(n)
		if err != nil {
			f.t.Fatal(err)
		}
		refs = append(refs, r)
	}
	res, err := f.c.Transfer.Add(f.t.Context(), config, [][]byte{b.Bytes()}, refs...)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(res.ID)
}

// left returns how many files are in the store.
func (f *fixture) left() int {
	f.t.Helper()
	if err := f.c.Images.Reclaim(); err != nil {
		f.t.Error(err)
	}
	n := 0
	for _, d := range []string{"content", "layers"} {
		err := filepath.WalkDir(filepath.Join(f.dir, d), func(_ string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				n++
			}
			return err
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return n
}

func tags(list []api.Summary) []string {
	var all []string
	for _, s := range list {
		all = append(all, strings.Join(s.RepoTags, ","))
	}
	return all
}

func TestListFilters(t *testing.T) {
	f := newFixture(t)
	f.add("old", 3*time.Hour, "localhost:5000/a/old:1")
	f.add("mid", 2*time.Hour, "debian:mid", "debian:same")
	f.add("new", time.Hour)
	tests := []struct {
		filters map[string][]string
		want    []string
	}{
		{nil, []string{"", "debian:mid,debian:same", "localhost:5000/a/old:1"}},
		{map[string][]string{"dangling": {"true"}}, []string{""}},
		{map[string][]string{"dangling": {"false"}}, []string{"debian:mid,debian:same", "localhost:5000/a/old:1"}},
		{map[string][]string{"reference": {"debian"}}, []string{"debian:mid,debian:same"}},
		{map[string][]string{"reference": {"deb*:m?d", "nothing"}}, []string{"debian:mid,debian:same"}},
		{map[string][]string{"label": {"label"}}, []string{"", "debian:mid,debian:same", "localhost:5000/a/old:1"}},
		{map[string][]string{"label": {"label=old"}}, []string{"localhost:5000/a/old:1"}},
		{map[string][]string{"label": {"label=old", "other"}}, nil},
		{map[string][]string{"before": {"debian:mid"}}, []string{"localhost:5000/a/old:1"}},
		{map[string][]string{"since": {"debian:mid"}}, []string{""}},
	}
	for _, tt := range tests {
		list, err := f.List(t.Context(), ListOptions{Filters: tt.filters})
		if err != nil {
			t.Errorf("%v: %v", tt.filters, err)
		}
		if diff := cmp.Diff(tt.want, tags(list)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.filters, diff)
		}
	}
	for _, bad := range []map[string][]string{{"nonsense": {"x"}}, {"dangling": {"maybe"}}, {"reference": {"["}}, {"before": {"a", "b"}}} {
		if _, err := f.List(t.Context(), ListOptions{Filters: bad}); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestInspectAndHistory(t *testing.T) {
	f := newFixture(t)
	id := f.add("a", 0, "a:1")
	r, err := f.Inspect(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != id || r.Os != "linux" || r.Config.Cmd[0] != "sh" || len(r.RootFS.Layers) != 1 || r.Size == 0 || r.Created != "2026-01-01T00:00:00Z" || r.Metadata.LastTagTime.IsZero() {
		t.Errorf("inspect: %+v", r)
	}
	h, err := f.History(t.Context(), id[7:19])
	if err != nil || len(h) != 2 || h[0].ID != id || h[0].CreatedBy != "CMD sh" || h[0].Size != 0 || h[1].Size == 0 {
		t.Errorf("history: %+v, %v", h, err)
	}
	if _, err := f.Inspect(t.Context(), "nosuch"); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "No such image: nosuch:latest" {
		t.Errorf("inspect of nothing: %v", err)
	}
}

func TestRemove(t *testing.T) {
	f := newFixture(t)
	id := f.add("a", 0, "a:1")
	if err := f.Tag(t.Context(), "a:1", "b:2"); err != nil {
		t.Fatal(err)
	}
	say := func(ref string, o RemoveOptions) string {
		gone, err := f.Remove(t.Context(), ref, o)
		var s []string
		n := 0
		for _, g := range gone {
			if g.Untagged != "" {
				s = append(s, g.Untagged)
			} else {
				n++
			}
		}
		if n > 0 {
			s = append(s, fmt.Sprint("deleted ", n))
		}
		if err != nil {
			s = append(s, fmt.Sprintf("[%v] %v", errdefs.ClassOf(err), err))
		}
		return strings.Join(s, "; ")
	}
	short := id[7:19]
	f.users[id] = []string{"0123456789abcdef"}
	f.running["0123456789abcdef"] = true
	steps := []struct {
		do   func() string
		want string
	}{
		{func() string { return say("nosuch", RemoveOptions{}) }, "[not found] No such image: nosuch:latest"},
		{func() string { return say(id, RemoveOptions{}) }, "[conflict] conflict: unable to delete " + short + " (cannot be forced) - image is being used by running container 0123456789ab"},
		{func() string { return say(short, RemoveOptions{Force: true}) }, "[conflict] conflict: unable to delete " + short + " (cannot be forced) - image is being used by running container 0123456789ab"},
		{func() string { return say("b:2", RemoveOptions{}) }, "b:2"},
		{func() string { return say("a:1", RemoveOptions{}) }, "[conflict] conflict: unable to remove repository reference \"a:1\" (must force) - container 0123456789ab is using its referenced image " + short},
		{func() string { f.running = map[string]bool{}; return say(short, RemoveOptions{}) }, "[conflict] conflict: unable to delete " + short + " (must be forced) - image is being used by stopped container 0123456789ab"},
		{func() string {
			if err := f.Tag(t.Context(), id, "c:3"); err != nil {
				t.Fatal(err)
			}
			f.users = map[string][]string{}
			return say(short, RemoveOptions{})
		}, "[conflict] conflict: unable to delete " + short + " (must be forced) - image is referenced in multiple repositories"},
		{func() string { return say("c:3", RemoveOptions{}) }, "c:3"},
		{func() string { return say("a:1", RemoveOptions{}) }, "a:1; deleted 2"},
		{func() string { return fmt.Sprint(f.left()) }, "0"},
	}
	for i, s := range steps {
		if got := s.do(); got != s.want {
			t.Errorf("step %d:\n got %s\nwant %s", i, got, s.want)
		}
	}
}

// TestForceKeepsLayersOfContainers: a container that was made from an image
// keeps its layers though the image goes.
func TestForceKeepsLayersOfContainers(t *testing.T) {
	f := newFixture(t)
	id := f.add("a", 0, "a:1")
	img, err := f.Resolve(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Pin(t.Context(), "c1", img); err != nil {
		t.Fatal(err)
	}
	f.users[id] = []string{"c1"}
	if _, err := f.Remove(t.Context(), "a:1", RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := f.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if f.left() != 1 {
		t.Errorf("%d files left, want the layer", f.left())
	}
	if err := f.Unpin(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if f.left() != 0 {
		t.Errorf("%d files left", f.left())
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t)
	f.add("dangling", 0)
	used := f.add("used", 0)
	f.users[used] = []string{"c"}
	f.add("named", 0, "named")
	report, err := f.Prune(t.Context(), nil)
	if err != nil || report.SpaceReclaimed == 0 || len(report.ImagesDeleted) != 2 {
		t.Errorf("prune: %+v, %v", report, err)
	}
	report, err = f.Prune(t.Context(), map[string][]string{"dangling": {"false"}})
	if err != nil || len(report.ImagesDeleted) != 3 {
		t.Errorf("prune of all: %+v, %v", report, err)
	}
	if list, err := f.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 || list[0].ID != used {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestSave(t *testing.T) {
	f := newFixture(t)
	id := f.add("a", 0, "a:1", "a:2", "b:1")
	for refs, want := range map[string]string{"a": "Loaded image: a:1\nLoaded image: a:2\n", "b:1": "Loaded image: b:1\n", id[7:20]: "Loaded image ID: " + id + "\n"} {
		var archive bytes.Buffer
		if err := f.Save(t.Context(), []string{refs}, nil, &archive); err != nil {
			t.Fatal(err)
		}
		g := newFixture(t)
		said := ""
		if err := g.Load(t.Context(), &archive, func(p transfer.Progress) { said += p.Message }); err != nil || said != want {
			t.Errorf("save %s: loaded %q, %v", refs, said, err)
		}
	}
	if err := f.Save(t.Context(), []string{"nosuch"}, nil, io.Discard); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("save of nothing: %v", err)
	}
}

func (f *fixture) program(text string) {
	f.t.Helper()
	tmp := f.c.Toolbox + ".new"
	if err := os.WriteFile(tmp, []byte("#!/bin/sh\n# "+text+"\necho sh cat "+text+"\n"), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(tmp, f.c.Toolbox); err != nil {
		f.t.Fatal(err)
	}
}

func TestBuiltin(t *testing.T) {
	f := newFixture(t)
	if _, err := f.Resolve(t.Context(), toolboxName); !errdefs.Is(err, errdefs.NotFound) || errdefs.HintOf(err) == "" {
		t.Errorf("without the program: %v", err)
	}
	f.program("one")
	if list, err := f.List(t.Context(), ListOptions{}); len(list) != 0 || err != nil {
		t.Errorf("made before anybody asked: %v, %v", list, err)
	}
	var ids []string
	resolve := func() image.Image {
		img, err := f.Resolve(t.Context(), "docker.io/lade/toolbox:latest")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, string(img.ID))
		return img
	}
	img := resolve()
	if diff := cmp.Diff([]string{"sh"}, img.Config.Config.Cmd); diff != "" || img.Names[0] != "lade/toolbox:latest" {
		t.Errorf("image: %+v", img)
	}
	resolve()
	if _, err := f.Remove(t.Context(), toolboxName, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if f.left() != 0 {
		t.Errorf("%d files left", f.left())
	}
	if err := f.Pull(t.Context(), PullOptions{Ref: toolboxName}, nil); err != nil {
		t.Fatal(err)
	}
	resolve()
	if ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("the same program made different images: %q", ids)
	}
	f.program("two")
	if resolve(); ids[3] == ids[0] {
		t.Error("a new program made the old image")
	}
	if list, err := f.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 {
		t.Errorf("the old image is still there: %v, %v", tags(list), err)
	}
	// An image of somebody's own under that name is left alone.
	own := f.add("own", 0, toolboxName)
	f.program("three")
	if resolve(); ids[4] != own {
		t.Errorf("somebody's own image was replaced")
	}
}
