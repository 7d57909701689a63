// Package filter reads Docker's filters of container lists, and applies them to
// records. It knows no running engine: who needs another container's age to
// compare with is given a function to ask.
package filter

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

// Filter is a parsed set of Docker's filters: a container must match one value
// of each key, and all labels.
type Filter struct {
	values        map[string][]string
	names         []*regexp.Regexp
	exited        []int
	before, since time.Time
}

// Created returns when the container was created that a reference leads to.
type Created func(ref string) (time.Time, error)

// Parse reads filters by key. What is no filter, or no value of one, is an
// error of class Invalid; a container to compare with must be there.
func Parse(values map[string][]string, created Created) (*Filter, error) {
	f := &Filter{values: values}
	for key, list := range values {
		for _, v := range list {
			if err := f.parse(key, v, created); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

func (f *Filter) parse(key, v string, created Created) error {
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
		t, err := created(v)
		if err != nil {
			return err
		}
		if key == "before" && (f.before.IsZero() || t.Before(f.before)) {
			f.before = t
		}
		if key == "since" && t.After(f.since) {
			f.since = t
		}
	default:
		return errdefs.New(errdefs.Invalid, "invalid filter '%s'", key)
	}
	return nil
}

// WantsStopped reports whether a filter can only mean containers that need not
// run; the list is then of all.
func (f *Filter) WantsStopped() bool {
	return len(f.values["status"]) > 0 || len(f.exited) > 0
}

// healthOf is the health that a filter compares.
func healthOf(st record.State) string {
	if st.Health == nil {
		return string(api.NoHealthcheck)
	}
	return string(st.Health.Status)
}

// Match reports whether a container is one that the filters mean.
func (f *Filter) Match(d record.Definition, st record.State) bool {
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
	case !f.before.IsZero() && !d.Created.Before(f.before),
		!f.since.IsZero() && !d.Created.After(f.since),
		len(f.exited) > 0 && (st.Status != api.StateExited || !slices.Contains(f.exited, st.ExitCode)),
		!anyOf("status", func(v string) bool { return string(st.Status) == v }),
		!anyOf("id", func(v string) bool { return strings.HasPrefix(d.ID, v) }),
		len(f.names) > 0 && !slices.ContainsFunc(f.names, func(re *regexp.Regexp) bool { return re.MatchString(d.Name) || re.MatchString("/"+d.Name) }),
		!anyOf("health", func(v string) bool { return v == healthOf(st) }),
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
func (f *Filter) ancestor(d record.Definition, v string) bool {
	id := d.Image.ID.Encoded()
	hex := strings.TrimPrefix(v, "sha256:")
	if v == d.Image.Asked || len(hex) >= 4 && strings.HasPrefix(id, hex) {
		return true
	}
	name, tag, _ := strings.Cut(d.Image.Asked, ":")
	return v == name && (tag == "" || tag == "latest") || v == d.Image.Asked+":latest"
}

func (f *Filter) volume(d record.Definition, v string) bool {
	for _, m := range d.Mounts {
		if m.Target == path.Clean(v) || m.Source == path.Clean(v) {
			return true
		}
	}
	return false
}

func (f *Filter) exposes(d record.Definition, v string) bool {
	for p := range d.Config.ExposedPorts {
		if p.String() == v || p.Port() == v {
			return true
		}
	}
	return false
}
