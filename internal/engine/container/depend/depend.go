// Package depend knows what containers wait for before they start: that others
// run, are healthy, or have done their work. It reads that from annotations, so
// that Docker's clients can ask for it too, and compares it with records. It
// starts and awaits nothing.
package depend

import (
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// Annotation holds what a container depends on: NAME[:CONDITION], with commas
// between them.
const Annotation = "lade.depends-on"

// The conditions.
const (
	Started   = "started"   // it runs; what holds where nothing is said
	Healthy   = "healthy"   // its health check has succeeded
	Completed = "completed" // it has ended with code 0
)

// On is one container that another depends on.
type On struct {
	Ref   string // its name, or id
	Until string // a condition
}

// Parse returns what a container with these annotations depends on.
func Parse(annotations map[string]string) ([]On, error) {
	text := annotations[Annotation]
	if text == "" {
		return nil, nil
	}
	var out []On
	for one := range strings.SplitSeq(text, ",") {
		ref, until, said := strings.Cut(strings.TrimSpace(one), ":")
		if !said {
			until = Started
		}
		if ref == "" || !slices.Contains([]string{Started, Healthy, Completed}, until) {
			return nil, errdefs.New(errdefs.Invalid, "invalid dependency %q: want NAME, NAME:started, NAME:healthy or NAME:completed", one)
		}
		out = append(out, On{Ref: strings.TrimPrefix(ref, "/"), Until: until})
	}
	return out, nil
}

// Wants reports whether the other one is to be started.
func (o On) Wants(st record.State) bool {
	if o.Until == Completed && st.Status == api.StateExited && st.ExitCode == 0 {
		return false // its work is done
	}
	return !st.Up()
}

// Met reports whether the condition holds of a container that was started. If
// it never will, the error says why.
func (o On) Met(d record.Definition, st record.State) (bool, error) {
	ended := func() error {
		return errdefs.New(errdefs.Conflict, "container %s, which is to be %s, has ended with code %d", d.Name, o.Until, st.ExitCode)
	}
	restarting := st.Status == api.StateRestarting
	switch o.Until {
	case Healthy:
		switch {
		case d.Config.Healthcheck == nil || len(d.Config.Healthcheck.Test) == 0 || d.Config.Healthcheck.Test[0] == "NONE":
			return false, errdefs.Hint(errdefs.New(errdefs.Conflict, "container %s has no health check", d.Name), "give it one with --health-cmd, or depend on it with :started")
		case restarting:
			return false, nil
		case !st.Alive():
			return false, ended()
		case st.Health != nil && st.Health.Status == api.Unhealthy:
			return false, errdefs.New(errdefs.Conflict, "container %s is unhealthy", d.Name)
		}
		return st.Health != nil && st.Health.Status == api.Healthy, nil
	case Completed:
		if st.Up() {
			return false, nil
		}
		if st.Status != api.StateExited || st.ExitCode != 0 || st.Unknown {
			return false, ended()
		}
		return true, nil
	default:
		return !restarting, nil // its start has succeeded, whatever it did since
	}
}

// Cycle refuses dependencies of a container by which it would wait for itself.
// of tells what is known of another one: its name, and what it depends on.
func Cycle(name string, on []On, of func(ref string) (string, []On)) error {
	return cycle([]string{name}, on, of)
}

func cycle(path []string, on []On, of func(ref string) (string, []On)) error {
	for _, o := range on {
		next, theirs := of(o.Ref)
		whole := append(slices.Clone(path), next)
		if next == path[0] {
			return errdefs.New(errdefs.Conflict, "containers depend on each other: %s", strings.Join(whole, " -> "))
		}
		if slices.Contains(path, next) {
			continue // a circle of others
		}
		if err := cycle(whole, theirs, of); err != nil {
			return err
		}
	}
	return nil
}
