package restart

import (
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
)

func TestNext(t *testing.T) {
	always := api.RestartPolicy{Name: api.RestartPolicyAlways}
	unless := api.RestartPolicy{Name: api.RestartPolicyUnlessStopped}
	failure := api.RestartPolicy{Name: api.RestartPolicyOnFailure}
	twice := api.RestartPolicy{Name: api.RestartPolicyOnFailure, MaximumRetryCount: 2}
	for _, tt := range []struct {
		name  string
		p     api.RestartPolicy
		e     Ended
		pause time.Duration
		again bool
	}{
		{"none", api.RestartPolicy{}, Ended{Code: 1}, 0, false},
		{"no", api.RestartPolicy{Name: api.RestartPolicyDisabled}, Ended{Code: 1}, 0, false},
		{"always, in order", always, Ended{}, 100 * time.Millisecond, true},
		{"always, stopped", always, Ended{Stopped: true}, 0, false},
		{"unless stopped", unless, Ended{Code: 137}, 100 * time.Millisecond, true},
		{"unless stopped, stopped", unless, Ended{Code: 137, Stopped: true}, 0, false},
		{"failure, in order", failure, Ended{}, 0, false},
		{"failure", failure, Ended{Code: 1, Count: 1000}, 100 * time.Millisecond, true},
		{"failure, first", twice, Ended{Code: 1}, 100 * time.Millisecond, true},
		{"failure, second", twice, Ended{Code: 1, Count: 1, Pause: 100 * time.Millisecond}, 200 * time.Millisecond, true},
		{"failure, third", twice, Ended{Code: 1, Count: 2}, 0, false},
		{"the pause doubles", always, Ended{Pause: 25 * time.Second}, 50 * time.Second, true},
		{"and has an end", always, Ended{Pause: 50 * time.Second}, time.Minute, true},
		{"not after a long life", always, Ended{Pause: 50 * time.Second, Ran: 10 * time.Second}, 100 * time.Millisecond, true},
	} {
		if pause, again := Next(tt.p, tt.e); pause != tt.pause || again != tt.again {
			t.Errorf("%s: %v %t, want %v %t", tt.name, pause, again, tt.pause, tt.again)
		}
	}
	if !AtBoot(always, true) || !AtBoot(unless, false) || AtBoot(unless, true) || AtBoot(failure, false) {
		t.Error("what runs after a boot")
	}
}
