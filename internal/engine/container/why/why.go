// Package why says in words how a container is, and how it came to that: as far
// as it is known, and no further.
package why

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
)

// Explain explains a container's state.
func Explain(def record.Definition, st record.State, now time.Time) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) + " ago" }
	switch st.Status {
	case api.StateRunning, api.StatePaused:
		say("%s was started %s, and runs.", def.Name, ago(st.StartedAt))
		if st.Status == api.StatePaused {
			say("Its processes are frozen: 'lade unpause %s' lets them go on.", def.Name)
		}
		sayHealth(say, st)
		return b.String()
	case api.StateExited, api.StateRestarting:
	default:
		if st.Error == "" {
			say("%s was created and not started.", def.Name)
		}
	}
	switch {
	case st.FinishedAt.IsZero() && st.Error != "":
		say("%s did not start (%d): %s", def.Name, st.ExitCode, st.Error)
		return b.String()
	case st.FinishedAt.IsZero():
		return b.String()
	}
	say("%s ended %s, after %s, with code %d.", def.Name, ago(st.FinishedAt), units.HumanDuration(st.FinishedAt.Sub(st.StartedAt)), st.ExitCode)
	sayCause(say, def, st)
	sayMemory(say, def, st)
	sayPolicy(say, def, st)
	return b.String()
}

// sayCause says what ended a container.
func sayCause(say func(string, ...any), def record.Definition, st record.State) {
	switch {
	case st.Unknown:
		say("What ended it is not known: %s.", strings.TrimPrefix(st.Error, "the exit code is unknown: "))
	case st.OOMKilled && st.Signal != 0:
		say("The kernel killed it: its processes needed more memory than they may have.")
	case st.Signal != 0:
		say("It was ended by %s.", request.SignalName(st.Signal))
		saySender(say, st)
	case st.ExitCode == 0:
		say("Its program ended in order.")
	default:
		if st.OOMKilled {
			say("The kernel killed one of its processes for want of memory; its first program ended by itself.")
		}
		sayCode(say, def, st.ExitCode)
	}
	if st.Error != "" && !st.Unknown {
		say("The engine noted: %s", st.Error)
	}
}

// saySender says who sent the signal that ended a container.
func saySender(say func(string, ...any), st record.State) {
	switch st.KilledBy {
	case "stop":
		say("'stop' or 'rm' sent it%s.", map[bool]string{true: ", after the time that the container was given to end by itself, or at once", false: ""}[st.Signal == 9])
	case "client":
		say("A client sent it with 'kill'.")
	case "engine":
		say("The engine sent it: a start could not be completed.")
	case "":
		say("It was not sent through Lade: the program sent it to itself, or another process of the container or of the host did.")
	default:
		say("It was sent by %s.", st.KilledBy)
	}
}

// sayCode says what an exit code means where there is a convention.
func sayCode(say func(string, ...any), def record.Definition, code int) {
	switch {
	case code == 126:
		say("By convention: a command was found and could not be executed.")
	case code == 127:
		say("By convention: a command was not found.")
	case code > 128 && code <= 128+64:
		say("By convention of shells: a program that it had started was ended by %s.", request.SignalName(code-128))
	default:
		say("Its program ended by itself. What the code means only the program knows; 'lade logs %s' shows what it said.", def.Name)
	}
}

func sayMemory(say func(string, ...any), def record.Definition, st record.State) {
	if st.PeakMemory == 0 {
		return
	}
	peak, limit := units.BytesSize(float64(st.PeakMemory)), def.Host.Memory
	switch {
	case limit == 0:
		say("It had %s of memory at most; it was given no limit.", peak)
	case st.OOMKilled:
		say("It had %s of memory at most, of %s that it may have (--memory).", peak, units.BytesSize(float64(limit)))
	default:
		say("It had %s of memory at most, of %s that it may have.", peak, units.BytesSize(float64(limit)))
	}
}

// sayPolicy says why it is started again, or is not.
func sayPolicy(say func(string, ...any), def record.Definition, st record.State) {
	p := def.Host.RestartPolicy
	switch {
	case p.IsNone():
	case st.Status == api.StateRestarting:
		say("Its restart policy (%s) starts it again, %v after its end; it has done so %d times.", p.Name, st.RestartPause, st.Restarts)
	case st.Stopped:
		say("Its restart policy (%s) does not start it again: somebody stopped it.", p.Name)
	case p.IsOnFailure() && st.ExitCode == 0:
		say("Its restart policy (on-failure) does not start it again: it did not fail.")
	case p.IsOnFailure():
		say("Its restart policy (on-failure:%d) does not start it again: it has done so %d times.", p.MaximumRetryCount, st.Restarts)
	}
}

func sayHealth(say func(string, ...any), st record.State) {
	h := st.Health
	if h == nil {
		return
	}
	say("Its health: %s, after %d failures in a row.", h.Status, h.FailingStreak)
	if n := len(h.Log); n > 0 && h.Log[n-1].ExitCode != 0 {
		say("The last check ended with %d: %s", h.Log[n-1].ExitCode, strings.TrimSpace(h.Log[n-1].Output))
	}
}
