package depend

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
)

func TestParse(t *testing.T) {
	got, err := Parse(map[string]string{Annotation: "db:healthy, /web,migrate:completed,x:started"})
	want := []On{{"db", Healthy}, {"web", Started}, {"migrate", Completed}, {"x", Started}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if got, err := Parse(nil); got != nil || err != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for _, bad := range []string{":healthy", "db:", "db:done", "db,", "db:healthy:started", ","} {
		if got, err := Parse(map[string]string{Annotation: bad}); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"db", "db:healthy,web", "/a:completed, b", ":", ",", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		on, err := Parse(map[string]string{Annotation: s})
		if err != nil {
			return
		}
		for _, o := range on {
			if o.Until == "" || strings.Contains(o.Ref, ",") {
				t.Errorf("%q: %+v", s, o)
			}
		}
	})
}

func TestMet(t *testing.T) {
	checked := record.Definition{Name: "db", Config: &api.Config{Healthcheck: &api.HealthConfig{Test: []string{"CMD", "true"}}}}
	plain := record.Definition{Name: "db", Config: &api.Config{}}
	health := func(s api.HealthStatus) record.State {
		return record.State{Status: api.StateRunning, Health: &api.Health{Status: s}}
	}
	running, again := record.State{Status: api.StateRunning}, record.State{Status: api.StateRestarting}
	good, bad := record.State{Status: api.StateExited}, record.State{Status: api.StateExited, ExitCode: 3}
	tests := []struct {
		until string
		def   record.Definition
		st    record.State
		wants bool
		met   bool
		err   string
	}{
		{Started, plain, running, false, true, ""},
		{Started, plain, again, false, false, ""},
		{Started, plain, good, true, true, ""},
		{Healthy, checked, health(api.Starting), false, false, ""},
		{Healthy, checked, health(api.Healthy), false, true, ""},
		{Healthy, checked, health(api.Unhealthy), false, false, "unhealthy"},
		{Healthy, checked, again, false, false, ""},
		{Healthy, checked, bad, true, false, "ended with code 3"},
		{Healthy, plain, running, false, false, "no health check"},
		{Completed, plain, running, false, false, ""},
		{Completed, plain, again, false, false, ""},
		{Completed, plain, good, false, true, ""},
		{Completed, plain, bad, true, false, "ended with code 3"},
		{Completed, plain, record.State{Status: api.StateCreated}, true, false, "ended"},
	}
	for _, tt := range tests {
		o := On{"db", tt.until}
		if got := o.Wants(tt.st); got != tt.wants {
			t.Errorf("%s of %+v: wants %t", tt.until, tt.st, got)
		}
		met, err := o.Met(tt.def, tt.st)
		if met != tt.met || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s of %+v: %t, %v; want %t, %q", tt.until, tt.st, met, err, tt.met, tt.err)
		}
	}
}

func TestCycle(t *testing.T) {
	all := map[string][]On{"a": {{"b", Started}}, "b": {{"c", Started}, {"b2", Started}}, "b2": {{"b", Started}}, "d": nil}
	of := func(ref string) (string, []On) { return ref, all[ref] }
	if err := Cycle("new", []On{{"a", Started}, {"d", Started}}, of); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"c": "c -> a -> b -> c", "a": "a -> a"} {
		err := Cycle(name, []On{{"a", Started}}, of)
		if err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
