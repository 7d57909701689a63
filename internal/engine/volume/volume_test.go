package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/metadata"
	"lade/internal/volume"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// engine is what survives a service: its files.
type engine struct {
	t   *testing.T
	dir string
	db  *metadata.DB
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	db, err := metadata.Open(filepath.Join(dir, "lade.db"), metadata.Options{})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return &engine{t, dir, db}
}

// start starts a service as the engine does, with the containers there are.
func (e *engine) start(users ...User) *Service {
	e.t.Helper()
	store, err := volume.Open(filepath.Join(e.dir, "volumes"))
	must(e.t, err)
	s, err := New(Options{Store: store, Records: e.db})
	must(e.t, err)
	must(e.t, s.Recover(e.t.Context(), users))
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, s *Service, filters map[string][]string) []string {
	t.Helper()
	list, err := s.List(t.Context(), filters)
	must(t, err)
	out := []string{}
	for _, v := range list.Volumes {
		out = append(out, v.Name)
	}
	return out
}

func take(t *testing.T, s *Service, container string, w Wish) string {
	t.Helper()
	name, err := s.Take(t.Context(), container, w)
	must(t, err)
	return name
}

// TestCreate makes volumes and finds them again after a restart.
func TestCreate(t *testing.T) {
	e := newEngine(t)
	s := e.start()
	v, err := s.Create(t.Context(), api.CreateRequest{Name: "data", Labels: map[string]string{"a": "b"}})
	must(t, err)
	if v.Driver != "local" || v.Scope != "local" || v.Mountpoint != s.Path("data") || v.Labels["a"] != "b" {
		t.Errorf("made %+v", v)
	}
	anon, err := s.Create(t.Context(), api.CreateRequest{})
	must(t, err)
	if _, ok := anon.Labels[anonymousLabel]; !ok || len(anon.Name) != 64 {
		t.Errorf("without a name: %+v", anon)
	}
	again, err := s.Create(t.Context(), api.CreateRequest{Name: "data"})
	must(t, err)
	if diff := cmp.Diff(v, again); diff != "" {
		t.Errorf("to make it again changed it: %s", diff)
	}
	s = e.start()
	got, err := s.Inspect(t.Context(), "data")
	must(t, err)
	if diff := cmp.Diff(v, got); diff != "" {
		t.Errorf("a restart changed it: %s", diff)
	}
}

// TestRefusals says what cannot be, in Docker's words.
func TestRefusals(t *testing.T) {
	s := newEngine(t).start()
	for _, tc := range []struct {
		req   api.CreateRequest
		class errdefs.Class
		text  string
	}{
		{api.CreateRequest{Name: "a"}, errdefs.Invalid, "create a: volume name is too short, names should be at least two alphanumeric characters"},
		{api.CreateRequest{Name: "../x"}, errdefs.Invalid, `create ../x: "../x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{api.CreateRequest{Name: "xx", Driver: "sshfs"}, errdefs.NotFound, `create xx: error looking up volume plugin sshfs: plugin "sshfs" not found`},
		{api.CreateRequest{Name: "xx", DriverOpts: map[string]string{"foo": ""}}, errdefs.Invalid, `create xx: invalid option: "foo"`},
	} {
		_, err := s.Create(t.Context(), tc.req)
		if !errdefs.Is(err, tc.class) || err.Error() != tc.text {
			t.Errorf("%+v: %v", tc.req, err)
		}
	}
	_, err := s.Inspect(t.Context(), "none")
	if !errdefs.Is(err, errdefs.NotFound) || err.Error() != "get none: no such volume" {
		t.Errorf("inspect: %v", err)
	}
	if err := s.Remove(t.Context(), "none", false); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("remove: %v", err)
	}
	must(t, s.Remove(t.Context(), "none", true))
	if left := names(t, s, nil); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestInUse refuses to remove what a container has, and names the container.
func TestInUse(t *testing.T) {
	s := newEngine(t).start()
	take(t, s, "c1", Wish{Name: "data"})
	take(t, s, "c2", Wish{Name: "data"})
	err := s.Remove(t.Context(), "data", true)
	if !errdefs.Is(err, errdefs.Conflict) || err.Error() != "remove data: volume is in use - [c1, c2]" {
		t.Errorf("remove: %v", err)
	}
	must(t, s.Release(t.Context(), "c1", true))
	must(t, s.Release(t.Context(), "c2", true))
	if got := names(t, s, nil); !cmp.Equal(got, []string{"data"}) {
		t.Errorf("a named volume went with its containers: %v", got)
	}
	must(t, s.Remove(t.Context(), "data", false))
	if _, err := os.Stat(s.Path("data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}

// TestAnonymous follows volumes without a name: with the last container that
// has them they go or stay, as is asked.
func TestAnonymous(t *testing.T) {
	e := newEngine(t)
	s := e.start()
	gone := take(t, s, "c1", Wish{})
	shared := take(t, s, "c1", Wish{})
	take(t, s, "c2", Wish{Name: shared}) // --volumes-from
	kept := take(t, s, "c3", Wish{})
	must(t, s.Release(t.Context(), "c1", true))
	must(t, s.Keep(t.Context(), "c3"))
	must(t, s.Release(t.Context(), "c3", false))
	want := []string{shared, kept}
	slices.Sort(want)
	if got := names(t, s, nil); !cmp.Equal(got, want) {
		t.Errorf("left %v of %s, %s and %s", got, gone, shared, kept)
	}
	// What stays, stays over a restart.
	s = e.start(User{ID: "c2", Volumes: []string{shared}})
	if got := names(t, s, nil); !cmp.Equal(got, want) {
		t.Errorf("after a restart: %v", got)
	}
	must(t, s.Release(t.Context(), "c2", true))
	if got := names(t, s, nil); !cmp.Equal(got, []string{kept}) {
		t.Errorf("left %v", got)
	}
}

// TestKilled restarts at each point of a create, and of a removal.
func TestKilled(t *testing.T) {
	e := newEngine(t)
	s := e.start()
	take(t, s, "c1", Wish{}) // the container was never recorded
	mine := take(t, s, "c2", Wish{})
	take(t, s, "c1", Wish{Name: "named"})
	s = e.start(User{ID: "c2", Volumes: []string{mine}})
	want := []string{mine, "named"}
	slices.Sort(want)
	if got := names(t, s, nil); !cmp.Equal(got, want) {
		t.Errorf("after a create that was cut short: %v", got)
	}
	// Recorded, and no directory yet; a directory moved away, still recorded.
	must(t, os.RemoveAll(filepath.Join(e.dir, "volumes/named")))
	s = e.start(User{ID: "c2", Volumes: []string{mine}})
	if got := names(t, s, nil); !cmp.Equal(got, []string{mine}) {
		t.Errorf("after a removal that was cut short: %v", got)
	}
	// The records are lost: the data is not.
	must(t, os.WriteFile(filepath.Join(s.Path(mine), "file"), nil, 0o600))
	must(t, e.db.Update(func(tx *metadata.Tx) error { return s.records.Delete(tx, mine) }))
	s = e.start()
	if got := names(t, s, nil); !cmp.Equal(got, []string{mine}) {
		t.Errorf("without its record: %v", got)
	}
	if _, err := os.Stat(filepath.Join(s.Path(mine), "file")); err != nil {
		t.Error(err)
	}
}

func TestListAndPrune(t *testing.T) {
	s := newEngine(t).start()
	ctx := t.Context()
	for _, name := range []string{"apple", "pear", "plum"} {
		_, err := s.Create(ctx, api.CreateRequest{Name: name, Labels: map[string]string{"kind": name, "fruit": ""}})
		must(t, err)
	}
	anon := take(t, s, "c", Wish{})
	take(t, s, "c", Wish{Name: "pear"})
	for _, tc := range []struct {
		filters map[string][]string
		want    []string
	}{
		{map[string][]string{"name": {"pl"}}, []string{"apple", "plum"}},
		{map[string][]string{"name": {"ear", "plu"}}, []string{"pear", "plum"}},
		{map[string][]string{"label": {"fruit", "kind=pear"}}, []string{"pear"}},
		{map[string][]string{"dangling": {"true"}}, []string{"apple", "plum"}},
		{map[string][]string{"driver": {"nfs"}}, []string{}},
		{map[string][]string{"driver": {"local"}, "dangling": {"0"}, "name": {"pear"}}, []string{"pear"}},
	} {
		if got := names(t, s, tc.filters); !cmp.Equal(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc.filters, got, tc.want)
		}
	}
	for _, bad := range []map[string][]string{{"color": {"x"}}, {"dangling": {"maybe"}}} {
		if _, err := s.List(ctx, bad); !errdefs.Is(err, errdefs.Invalid) || !strings.HasPrefix(err.Error(), "invalid filter") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	prune := func(filters map[string][]string) []string {
		t.Helper()
		r, err := s.Prune(ctx, filters)
		must(t, err)
		return r.VolumesDeleted
	}
	if got := prune(nil); len(got) != 0 {
		t.Errorf("pruned %v, of which a container has the one and others have names", got)
	}
	must(t, s.Keep(ctx, "c"))
	must(t, s.Release(ctx, "c", false))
	if got := prune(nil); !cmp.Equal(got, []string{anon}) {
		t.Errorf("pruned %v", got)
	}
	if got := prune(map[string][]string{"all": {"true"}, "label!": {"kind=plum"}}); !cmp.Equal(got, []string{"apple", "pear"}) {
		t.Errorf("pruned %v", got)
	}
}

// TestMounted mounts a volume of its own file system while containers run, also
// across a restart.
func TestMounted(t *testing.T) {
	kerneltest.Root(t)
	e := newEngine(t)
	s := e.start()
	ctx := t.Context()
	_, err := s.Create(ctx, api.CreateRequest{Name: "mem", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}})
	must(t, err)
	for _, c := range []string{"c1", "c2"} {
		take(t, s, c, Wish{Name: "mem"})
		must(t, s.Mount(ctx, c))
	}
	file := filepath.Join(s.Path("mem"), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	there := func(want bool) {
		t.Helper()
		if _, err := os.Stat(file); (err == nil) != want {
			t.Fatalf("the tmpfs is there: %v, want %v", err == nil, want)
		}
	}
	s.Unmount("c1")
	there(true)
	s = e.start(User{ID: "c1", Volumes: []string{"mem"}}, User{ID: "c2", Volumes: []string{"mem"}, Running: true})
	there(true)
	s.Unmount("c1")
	there(true)
	e.start(User{ID: "c1", Volumes: []string{"mem"}}, User{ID: "c2", Volumes: []string{"mem"}})
	there(false)
}

// TestFill copies what an image has, through the service.
func TestFill(t *testing.T) {
	s := newEngine(t).start()
	take(t, s, "c", Wish{Name: "data"})
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	must(t, s.Fill(t.Context(), "data", func() (*fsat.Dir, error) { return fsat.Open(dir) }))
	if _, err := os.Stat(filepath.Join(s.Path("data"), "file")); err != nil {
		t.Error(err)
	}
}

// TestConcurrent makes, uses and removes one volume from many sides: nobody is
// given what another has removed.
func TestConcurrent(t *testing.T) {
	s := newEngine(t).start()
	ctx := context.WithoutCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := fmt.Sprintf("c%d", i)
			for range 25 {
				if _, err := s.Take(ctx, id, Wish{Name: "data"}); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(s.Path("data")); err != nil {
					t.Errorf("a volume in use is not there: %v", err)
				}
				if err := s.Release(ctx, id, true); err != nil {
					t.Error(err)
				}
				err := s.Remove(ctx, "data", false)
				if err != nil && !errdefs.Is(err, errdefs.Conflict) && !errdefs.Is(err, errdefs.NotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
