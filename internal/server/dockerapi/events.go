package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/event"
	"lade/internal/errdefs"
)

// events streams what happened and what happens. Where `since` is # and a
// number, the stream begins behind the event of that number.
func (h *Handler) events(c *call) error {
	o, err := c.eventOptions()
	if err != nil {
		return err
	}
	stream, err := h.s.Events.Stream(o)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	c.w.Header().Set("Content-Type", types.MediaTypeJSON)
	c.w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(c.w).Flush
	if err := flush(); err != nil {
		return err
	}
	enc := json.NewEncoder(c.w)
	ctx, stop := h.leaving.untilLeave(c.Context())
	defer stop()
	for {
		e, err := stream.Next(ctx, flush)
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if errors.Is(context.Cause(ctx), errLeaving) && err != nil {
			q := maps.Clone(c.query)
			if at := stream.Position(); at > 0 {
				q.Set("since", fmt.Sprintf("#%d", at-1))
			}
			return h.leaving.carry(c, "/events", q)
		}
		if err != nil {
			return err
		}
		if err := enc.Encode(eventFor(c.version, e)); err != nil {
			return err
		}
	}
}

func (c *call) eventOptions() (o event.Options, err error) {
	if number, ok := strings.CutPrefix(c.query.Get("since"), "#"); ok {
		n, err := strconv.ParseUint(number, 10, 63)
		if err != nil {
			return o, errdefs.New(errdefs.Invalid, "invalid value for \"since\": %q is no number of an event", number)
		}
		o.After = &n
	} else if o.Since, err = c.moment("since"); err != nil {
		return o, err
	}
	if o.Until, err = c.moment("until"); err != nil {
		return o, err
	}
	if !o.Until.IsZero() && !o.Since.IsZero() && o.Until.Before(o.Since) {
		return o, errdefs.New(errdefs.Invalid, "`since` time (%s) cannot be after `until` time (%s)", c.query.Get("since"), c.query.Get("until"))
	}
	o.Filters, err = c.filters()
	return o, err
}

// wireEvent is an event with its number, which is Lade's own.
type wireEvent struct {
	events.Message
	Number uint64 `json:"number"`
}

// eventBefore52 is how an event was told before version 1.52.
type eventBefore52 struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	wireEvent
}

func eventFor(v apiVersion, e event.Event) any {
	w := wireEvent{e.Message, e.Number}
	if !v.before(52) || e.Type != events.ContainerEventType && e.Type != events.ImageEventType {
		return w
	}
	return eventBefore52{string(e.Action), e.Actor.ID, e.Actor.Attributes["image"], w}
}
