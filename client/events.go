package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/events"
)

// EventsOptions says which events are wanted.
type EventsOptions struct {
	// Since and Until are times as the API has them. Since may also be # and
	// the number of the last event that is known.
	Since, Until string
	Filters      Filters
}

// Event is one event.
type Event struct {
	events.Message
	Number uint64          `json:"number"` // 0 from engines that do not number
	Raw    json.RawMessage `json:"-"`      // as the engine sent it
}

// EventStream is what the engine tells as it happens.
type EventStream struct {
	body io.ReadCloser
	dec  *json.Decoder
}

// Events opens a stream of events.
func (c *Client) Events(ctx context.Context, o EventsOptions) (*EventStream, error) {
	q := url.Values{}
	for name, v := range map[string]string{"since": o.Since, "until": o.Until} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if err := o.Filters.query(q); err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("events"), query: q}) //nolint:bodyclose // EventStream closes it
	if err != nil {
		return nil, err
	}
	return &EventStream{resp.Body, json.NewDecoder(resp.Body)}, nil
}

// Next returns the next event; io.EOF after the last.
func (s *EventStream) Next() (Event, error) {
	var e Event
	err := s.dec.Decode(&e.Raw)
	if err == nil {
		if err = json.Unmarshal(e.Raw, &e); err != nil {
			return e, fmt.Errorf("read event: %w", err)
		}
		return e, nil
	}
	if errors.Is(err, io.EOF) {
		return e, io.EOF
	}
	return e, connectionError(err)
}

// Close ends the stream.
func (s *EventStream) Close() error { return s.body.Close() }
