package container

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

func itoa(n int) string { return strconv.Itoa(n) }

// filter is a parsed set of Docker's filters: a container must match one value
// of each key, and all labels.
type filter struct {
	values        map[string][]string
	names         []*regexp.Regexp
	exited        []int
	before, since time.Time
}

func (s *Service) newFilter(values map[string][]string) (*filter, error) {
	f := &filter{values: values}
	for key, list := range values {
		for _, v := range list {
			if err := f.parse(s, key, v); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func (f *filter) parse(s *Service, key, v string) error {
	bad := errdefs.New(errdefs.Invalid, "invalid filter '%s=%s'", key, v)
	switch key {
	case "ancestor", "id", "label", "label!", "network", "volume", "expose", "publish":
	case "health":
		if err := api.ValidateHealthStatus(api.HealthStatus(v)); err != nil {
			return errdefs.With(errdefs.Invalid, err)
		}
	case "is-task", "isolation":
	case "status":
		if err := api.ValidateContainerState(api.ContainerState(v)); err != nil {
			return errdefs.With(errdefs.Invalid, err)
		}
	case "name":
		re, err := regexp.Compile(v)
		if err != nil {
			return errdefs.New(errdefs.Invalid, "invalid filter 'name=%s': %w", v, err)
		}
		f.names = append(f.names, re)
	case "exited":
		n, err := strconv.Atoi(v)
		if err != nil {
			return bad
		}
		f.exited = append(f.exited, n)
	case "before", "since":
		c, err := s.lookup(v)
		if err != nil {
			return err
		}
		if key == "before" && (f.before.IsZero() || c.created.Before(f.before)) {
			f.before = c.created
		}
		if key == "since" && c.created.After(f.since) {
			f.since = c.created
		}
	default:
		return errdefs.New(errdefs.Invalid, "invalid filter '%s'", key)
	}
	return nil
}

// wantsStopped reports whether a filter can only mean containers that need not
// run; the list is then of all.
func (f *filter) wantsStopped() bool {
	return len(f.values["status"]) > 0 || len(f.exited) > 0
}

func (f *filter) match(c *container, d record.Definition, st record.State) bool {
	anyOf := func(key string, match func(v string) bool) bool {
		list := f.values[key]
		return len(list) == 0 || slices.ContainsFunc(list, match)
	}
	label := func(v string) bool {
		k, want, hasValue := strings.Cut(v, "=")
		have, ok := d.Config.Labels[k]
		return ok && (!hasValue || have == want)
	}
	switch {
	case !f.before.IsZero() && !c.created.Before(f.before),
		!f.since.IsZero() && !c.created.After(f.since),
		len(f.exited) > 0 && (st.Status != api.StateExited || !slices.Contains(f.exited, st.ExitCode)),
		!anyOf("status", func(v string) bool { return string(st.Status) == v }),
		!anyOf("id", func(v string) bool { return strings.HasPrefix(d.ID, v) }),
		len(f.names) > 0 && !slices.ContainsFunc(f.names, func(re *regexp.Regexp) bool { return re.MatchString(d.Name) || re.MatchString("/"+d.Name) }),
		!anyOf("health", func(v string) bool { return v == string(api.NoHealthcheck) }),
		!anyOf("is-task", func(v string) bool { return v == "false" || v == "0" }),
		!anyOf("network", func(v string) bool { return d.Host.NetworkMode.NetworkName() == v }),
		!anyOf("ancestor", func(v string) bool { return f.ancestor(d, v) }),
		!anyOf("volume", func(v string) bool { return f.volume(d, v) }),
		!anyOf("expose", func(v string) bool { return f.exposes(d, v) }),
		len(f.values["publish"]) > 0:
		return false
	}
	for _, v := range f.values["label"] {
		if !label(v) {
			return false
		}
	}
	return !slices.ContainsFunc(f.values["label!"], label)
}

// ancestor compares an image by how it was asked for and by its id.
func (f *filter) ancestor(d record.Definition, v string) bool {
	id := d.Image.ID.Encoded()
	hex := strings.TrimPrefix(v, "sha256:")
	if v == d.Image.Asked || len(hex) >= 4 && strings.HasPrefix(id, hex) {
		return true
	}
	name, tag, _ := strings.Cut(d.Image.Asked, ":")
	return v == name && (tag == "" || tag == "latest") || v == d.Image.Asked+":latest"
}

func (f *filter) volume(d record.Definition, v string) bool {
	for _, m := range d.Mounts {
		if m.Target == path.Clean(v) || m.Source == path.Clean(v) {
			return true
		}
	}
	return false
}

func (f *filter) exposes(d record.Definition, v string) bool {
	for p := range d.Config.ExposedPorts {
		if p.String() == v || p.Port() == v {
			return true
		}
	}
	return false
}
