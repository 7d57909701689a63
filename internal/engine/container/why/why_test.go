package why

import (
	"strings"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
)

func TestExplain(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ended := record.State{Status: api.StateExited, StartedAt: now.Add(-2 * time.Hour), FinishedAt: now.Add(-time.Hour)}
	with := func(change func(*record.State)) record.State {
		st := ended
		change(&st)
		return st
	}
	for _, tt := range []struct {
		name   string
		st     record.State
		policy api.RestartPolicyMode
		want   string
	}{
		{"created", record.State{Status: api.StateCreated}, "", "c was created and not started.\n"},
		{"not started", record.State{Status: api.StateCreated, Error: "no such file", ExitCode: 127}, "", "c did not start (127): no such file\n"},
		{"running", record.State{Status: api.StateRunning, StartedAt: now.Add(-time.Hour)}, "", "c was started About an hour ago, and runs.\n"},
		{"in order", ended, "on-failure", "c ended About an hour ago, after About an hour, with code 0.|ended in order|it did not fail"},
		{"code", with(func(st *record.State) { st.ExitCode = 3 }), "", "with code 3|only the program knows; 'lade logs c'"},
		{"not found", with(func(st *record.State) { st.ExitCode = 127 }), "", "a command was not found"},
		{"a child's", with(func(st *record.State) { st.ExitCode = 143 }), "", "had started was ended by SIGTERM"},
		{"killed", with(func(st *record.State) { st.ExitCode, st.Signal, st.KilledBy = 137, 9, "client" }), "", "ended by SIGKILL|client sent it with 'kill'"},
		{"stopped", with(func(st *record.State) { st.ExitCode, st.Signal, st.KilledBy, st.Stopped = 137, 9, "stop", true }), "always", "'stop' or 'rm' sent it, after|somebody stopped it"},
		{"by itself", with(func(st *record.State) { st.ExitCode, st.Signal = 139, 11 }), "", "SIGSEGV|not sent through Lade"},
		{"memory", with(func(st *record.State) { st.ExitCode, st.Signal, st.OOMKilled, st.PeakMemory = 137, 9, true, 64<<20 }), "", "needed more memory|64MiB of memory at most, of 128MiB"},
		{"unknown", with(func(st *record.State) {
			st.ExitCode, st.Unknown, st.Error = 255, true, "the exit code is unknown: nobody saw it"
		}), "", "is not known: nobody saw it."},
		{"again", with(func(st *record.State) { st.Status, st.RestartPause, st.Restarts = api.StateRestarting, time.Second, 4 }), "always", "starts it again, 1s after its end; it has done so 4 times"},
		{"unhealthy", record.State{Status: api.StateRunning, StartedAt: now, Health: &api.Health{Status: api.Unhealthy, FailingStreak: 3, Log: []*api.HealthcheckResult{{ExitCode: 1, Output: "refused\n"}}}}, "", "unhealthy, after 3 failures|ended with 1: refused\n"},
	} {
		def := record.Definition{Name: "c", Host: &api.HostConfig{RestartPolicy: api.RestartPolicy{Name: tt.policy}}}
		def.Host.Memory = 128 << 20
		got := Explain(def, tt.st, now)
		for part := range strings.SplitSeq(tt.want, "|") {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %q lacks %q", tt.name, got, part)
			}
		}
	}
}
