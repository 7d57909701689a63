// Package restart decides whether and when a container that has ended is
// started again. It knows policies and numbers, and no container.
package restart

import (
	"time"

	api "github.com/moby/moby/api/types/container"
)

// The pause before a container is started again doubles with each time, from
// the first to the last; a container that ran for long enough begins anew.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Minute
	longEnough = 10 * time.Second
)

// Ended is how a container ended.
type Ended struct {
	Code    int
	Ran     time.Duration
	Count   int           // of how often it was started again
	Pause   time.Duration // before the start that has ended; 0 if somebody asked for it
	Stopped bool          // somebody asked for the end
}

// Next returns whether a container is to be started again, and after what pause.
func Next(p api.RestartPolicy, e Ended) (pause time.Duration, again bool) {
	switch {
	case e.Stopped:
		return 0, false
	case p.IsAlways(), p.IsUnlessStopped():
	case p.IsOnFailure():
		if e.Code == 0 || p.MaximumRetryCount > 0 && e.Count >= p.MaximumRetryCount {
			return 0, false
		}
	default:
		return 0, false
	}
	if e.Ran >= longEnough || e.Pause == 0 {
		return firstPause, true
	}
	return min(2*e.Pause, lastPause), true
}

// AtBoot reports whether a container that does not run is started when the
// machine is: one that always runs, also where somebody had stopped it.
func AtBoot(p api.RestartPolicy, stopped bool) bool {
	return p.IsAlways() || p.IsUnlessStopped() && !stopped
}
