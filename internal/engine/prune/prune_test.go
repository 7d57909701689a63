package prune

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

type fake struct {
	list    []api.Summary
	errs    map[string]error
	removed []string
}

func (f *fake) Stopped(context.Context) ([]api.Summary, error) { return f.list, nil }

func (f *fake) Remove(_ context.Context, id string) error {
	f.removed = append(f.removed, id)
	return f.errs[id]
}

func TestContainers(t *testing.T) {
	f := &fake{
		list: []api.Summary{
			{ID: "a", SizeRw: 5}, {ID: "gone", SizeRw: 9}, {ID: "started", SizeRw: 9}, {ID: "kept", Labels: map[string]string{"keep": ""}}, {ID: "b", SizeRw: 7},
		},
		errs: map[string]error{"gone": errdefs.New(errdefs.NotFound, "x"), "started": errdefs.New(errdefs.Conflict, "x")},
	}
	r, err := New(f).Containers(t.Context(), map[string][]string{"label!": {"keep"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(api.PruneReport{ContainersDeleted: []string{"a", "b"}, SpaceReclaimed: 12}, r); diff != "" {
		t.Error(diff)
	}
	f.errs["b"] = errors.New("disk on fire")
	if r, err := New(f).Containers(t.Context(), nil); err == nil || len(r.ContainersDeleted) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	f.removed = nil
	if _, err := New(f).Containers(t.Context(), map[string][]string{"until": {"1s"}}); err == nil || len(f.removed) == 0 {
		t.Errorf("removed %v, %v", f.removed, err)
	}
	if _, err := New(f).Containers(t.Context(), map[string][]string{"status": {"x"}}); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("an unknown filter: %v", err)
	}
}
