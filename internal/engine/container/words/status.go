package words

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
)

// Command is a command as Docker lists it: arguments with spaces quoted.
func Command(argv []string) string {
	var b strings.Builder
	for i, a := range argv {
		if i > 0 {
			b.WriteByte(' ')
		}
		if i > 0 && strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

// Status says in Docker's words how a container is.
func Status(st record.State, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch st.Status {
	case api.StateRunning:
		return "Up " + since(st.StartedAt) + healthText(st.Health)
	case api.StatePaused:
		return "Up " + since(st.StartedAt) + " (Paused)"
	case api.StateExited:
		return "Exited (" + strconv.Itoa(st.ExitCode) + ") " + since(st.FinishedAt) + " ago"
	case api.StateRemoving:
		return "Removal In Progress"
	case api.StateDead:
		return "Dead"
	case api.StateRestarting:
		return "Restarting (" + strconv.Itoa(st.ExitCode) + ") " + since(st.FinishedAt) + " ago"
	default:
		return "Created"
	}
}

// healthText is what the status says of a container's health.
func healthText(h *api.Health) string {
	switch {
	case h == nil:
		return ""
	case h.Status == api.Starting:
		return " (health: starting)"
	}
	return " (" + string(h.Status) + ")"
}
