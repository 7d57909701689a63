package event

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
)

// filter is Docker's filters by key: an event must match one value of each key,
// and all labels.
type filter map[string][]string

func parseFilter(values map[string][]string) (filter, error) {
	for key := range values {
		switch key {
		case "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume":
		default:
			return nil, errdefs.New(errdefs.Invalid, "invalid filter '%s'", key)
		}
	}
	return values, nil
}

func (f filter) match(m events.Message) bool {
	return f.action(string(m.Action)) && f.exact("type", string(m.Type)) && f.exact("scope", m.Scope) &&
		f.object("container", m) && f.object("network", m) && f.object("volume", m) && f.object("plugin", m) &&
		f.object("daemon", m) && f.image(m) && f.labels(m.Actor.Attributes) &&
		// Of these Lade has none.
		f.object("config", m) && f.object("node", m) && f.object("secret", m) && f.object("service", m)
}

func (f filter) anyOf(key string, match func(want string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], match)
}

func (f filter) exact(key, have string) bool {
	return f.anyOf(key, func(want string) bool { return want == have })
}

// action compares what happened. Where an action says more behind a colon, what
// is before it is enough.
func (f filter) action(have string) bool {
	kind, _, _ := strings.Cut(have, ":")
	return f.anyOf("event", func(want string) bool { return want == have || want == kind })
}

// object compares an object's id, the beginning of it, or the beginning of its
// name, with events of that type.
func (f filter) object(key string, m events.Message) bool {
	return f.anyOf(key, func(want string) bool {
		return string(m.Type) == key && (strings.HasPrefix(m.Actor.ID, want) || strings.HasPrefix(m.Actor.Attributes["name"], want))
	})
}

// image compares the image of an event, or of a container, with and without
// what stands behind its name.
func (f filter) image(m events.Message) bool {
	return f.anyOf("image", func(want string) bool {
		have := []string{m.Actor.Attributes["image"]}
		if m.Type == events.ImageEventType {
			have = []string{m.Actor.ID, m.Actor.Attributes["name"]}
		}
		return slices.ContainsFunc(have, func(h string) bool {
			return h != "" && (h == want || family(h) == want)
		})
	})
}

// family is an image's name without tag and digest.
func family(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}

func (f filter) labels(have map[string]string) bool {
	for _, want := range f["label"] {
		k, v, valued := strings.Cut(want, "=")
		if got, ok := have[k]; !ok || valued && got != v {
			return false
		}
	}
	return true
}
