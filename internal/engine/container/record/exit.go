package record

import (
	"strconv"
	"time"

	api "github.com/moby/moby/api/types/container"

	"github.com/moby/moby/api/types/events"

	"lade/internal/shim"
)

// ExitUnknown is the code of a container whose end nobody saw. Docker uses it
// for the same.
const ExitUnknown = 255

// Ended is what an end is told as.
func Ended(def Definition, st State) []events.Message {
	var out []events.Message
	if st.OOMKilled {
		out = append(out, Event(def, events.ActionOOM))
	}
	took := max(st.FinishedAt.Sub(st.StartedAt), 0)
	return append(out, Event(def, events.ActionDie, "exitCode", strconv.Itoa(st.ExitCode), "execDuration", strconv.Itoa(int(took.Seconds()))))
}

// After is the state of a container that was in s and ended as exit says.
func After(s State, exit shim.Exit) State {
	s.Status, s.PID, s.PIDStart = api.StateExited, 0, 0
	s.ExitCode, s.OOMKilled, s.KilledBy, s.Error = exit.Code, exit.OOMKilled, exit.KilledBy, exit.Error
	s.Signal, s.PeakMemory, s.Unknown = exit.Signal, exit.PeakMemory, exit.Unknown
	if exit.Unknown && exit.Code == 0 {
		s.ExitCode = ExitUnknown
	}
	s.FinishedAt = exit.ExitedAt.UTC()
	if s.FinishedAt.IsZero() {
		s.FinishedAt = time.Now().UTC()
	}
	if !exit.StartedAt.IsZero() {
		s.StartedAt = exit.StartedAt.UTC()
	}
	return s
}
