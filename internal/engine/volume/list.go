package volume

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
)

// List returns the volumes that all filters have, by name. filters are
// Docker's, by key: name, driver, label, dangling.
func (s *Service) List(_ context.Context, filters map[string][]string) (api.ListResponse, error) {
	if err := checkFilters(filters, "name", "driver", "label", "dangling"); err != nil {
		return api.ListResponse{}, err
	}
	dangling, given, err := flag(filters, "dangling")
	if err != nil {
		return api.ListResponse{}, err
	}
	out := api.ListResponse{Volumes: []api.Volume{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.vols)) {
		e := s.vols[name]
		switch {
		case given && dangling != (len(e.users) == 0):
		case !anyOf(filters["name"], func(v string) bool { return strings.Contains(name, v) }):
		case !anyOf(filters["driver"], func(v string) bool { return v == driver }):
		case !labelled(e.rec.Labels, filters["label"]):
		default:
			out.Volumes = append(out.Volumes, s.show(e))
		}
	}
	return out, nil
}

// All returns all volumes, with how many containers have each and without their
// sizes.
func (s *Service) All(ctx context.Context) ([]api.Volume, error) {
	list, err := s.List(ctx, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list.Volumes {
		v := &list.Volumes[i]
		v.UsageData = &api.UsageData{Size: -1}
		if e := s.vols[v.Name]; e != nil {
			v.UsageData.RefCount = int64(len(e.users))
		}
	}
	return list.Volumes, err
}

// Prune removes the volumes that no container has: those that nobody gave a
// name, or with the filter all those with one, too.
func (s *Service) Prune(_ context.Context, filters map[string][]string) (api.PruneReport, error) {
	if err := checkFilters(filters, "label", "label!", "all"); err != nil {
		return api.PruneReport{}, err
	}
	all, _, err := flag(filters, "all")
	if err != nil {
		return api.PruneReport{}, err
	}
	s.mu.Lock()
	var unused []*entry
	for _, name := range slices.Sorted(maps.Keys(s.vols)) {
		e := s.vols[name]
		without := len(filters["label!"]) == 0 || !labelled(e.rec.Labels, filters["label!"])
		if len(e.users) == 0 && (all || e.anonymous()) && labelled(e.rec.Labels, filters["label"]) && without {
			unused = append(unused, e)
		}
	}
	s.mu.Unlock()
	report := api.PruneReport{VolumesDeleted: []string{}}
	for _, e := range unused {
		size := s.o.Store.Size(e.rec.Name)
		err := s.remove(e)
		if errdefs.Is(err, errdefs.Conflict) || errdefs.Is(err, errdefs.NotFound) {
			continue // somebody came to use it, or was faster
		}
		if err != nil {
			return report, err
		}
		report.VolumesDeleted = append(report.VolumesDeleted, e.rec.Name)
		report.SpaceReclaimed += uint64(size)
	}
	return report, nil
}

func checkFilters(filters map[string][]string, known ...string) error {
	for key := range filters {
		if !slices.Contains(known, key) {
			return errdefs.New(errdefs.Invalid, "invalid filter '%s'", key)
		}
	}
	return nil
}

// flag reads a filter that is true or false; of several values the last counts.
func flag(filters map[string][]string, key string) (value, given bool, err error) {
	for _, v := range filters[key] {
		if value, err = strconv.ParseBool(v); err != nil {
			return false, true, errdefs.New(errdefs.Invalid, "invalid filter '%s=%s'", key, v)
		}
		given = true
	}
	return value, given, nil
}

// anyOf reports whether one of the values does, or there are none.
func anyOf(values []string, ok func(string) bool) bool {
	return len(values) == 0 || slices.ContainsFunc(values, ok)
}

// labelled reports whether labels have all that is wanted, each a name or
// name=value.
func labelled(labels map[string]string, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool {
		key, value, given := strings.Cut(w, "=")
		have, ok := labels[key]
		return !ok || given && have != value
	})
}
