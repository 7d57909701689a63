package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
)

type eventsOptions struct {
	since, until, format string
	filters              []string
}

// NewEvents returns the command events.
func NewEvents(env *command.Env) *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use:   "events [OPTIONS]",
		Short: "Get real time events from the server",
		Long: "Every event has a number. With --since '#N' all that happened after event N is shown, none twice and none\n" +
			"left out, whatever happened to the engine meanwhile.",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), env) },
	}
	fs := cmd.Flags()
	fs.StringVar(&o.since, "since", "", "Show all events created since timestamp, or after the event of a number ('#N')")
	fs.StringVar(&o.until, "until", "", "Stream events until this timestamp")
	fs.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions provided")
	fs.StringVar(&o.format, "format", "", "Format output using a Go template, or 'json'")
	return cmd
}

// How often, and with what pauses at first, a lost stream is taken up again.
const (
	eventAttempts = 8
	eventPause    = 50 * time.Millisecond
)

func (o *eventsOptions) run(ctx context.Context, env *command.Env) error {
	opts, err := o.request(time.Now())
	if err != nil {
		return err
	}
	show, err := o.writer(env.Out)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	began := time.Now()
	for attempt := 0; ; attempt++ {
		last, err := follow(ctx, c, opts, show)
		if last > 0 {
			// The next engine goes on behind what this one has told.
			opts.Since, attempt = fmt.Sprintf("#%d", last), 0
		}
		if ctx.Err() != nil || err == nil && opts.Until != "" {
			return nil //nolint:nilerr // to be ended by ^C is how it ends
		}
		// Without an end, a stream that ends is an engine that does.
		if err != nil && !errors.Is(err, client.ErrConnection) || attempt >= eventAttempts {
			return err
		}
		if opts.Since == "" { // what happens until the next engine answers
			opts.Since = fmt.Sprint(began.Unix())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(eventPause << attempt):
		}
	}
}

func (o *eventsOptions) request(now time.Time) (client.EventsOptions, error) {
	opts := client.EventsOptions{Since: o.since}
	var err error
	if opts.Filters, err = command.Filters(o.filters); err != nil {
		return opts, err
	}
	if !strings.HasPrefix(o.since, "#") {
		if opts.Since, err = format.Timestamp(o.since, now); err != nil {
			return opts, err
		}
	}
	opts.Until, err = format.Timestamp(o.until, now)
	return opts, err
}

// follow shows events until the stream ends, and returns the number of the last.
func follow(ctx context.Context, c *client.Client, o client.EventsOptions, show func(client.Event) error) (last uint64, err error) {
	stream, err := c.Events(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	for {
		e, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		if err := show(e); err != nil {
			return last, err
		}
		last = e.Number
	}
}

// writer returns what shows an event in the form that was asked for.
func (o *eventsOptions) writer(w io.Writer) (func(client.Event) error, error) {
	switch o.format {
	case "":
		return func(e client.Event) error {
			_, err := io.WriteString(w, eventLine(e))
			return err
		}, nil
	case "json":
		return func(e client.Event) error {
			_, err := fmt.Fprintf(w, "%s\n", e.Raw)
			return err
		}, nil
	}
	tmpl, err := format.Parse(o.format)
	if err != nil {
		return nil, err
	}
	return func(e client.Event) error {
		var b strings.Builder
		if err := tmpl.Execute(&b, e); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		_, err := fmt.Fprintln(w, b.String())
		return err
	}, nil
}

// eventLine is an event as Docker shows it.
func eventLine(e client.Event) string {
	var b strings.Builder
	b.WriteString(time.Unix(0, e.TimeNano).Format("2006-01-02T15:04:05.000000000Z07:00"))
	fmt.Fprintf(&b, " %s %s %s", e.Type, e.Action, e.Actor.ID)
	var attrs []string
	for _, k := range slices.Sorted(maps.Keys(e.Actor.Attributes)) {
		attrs = append(attrs, k+"="+e.Actor.Attributes[k])
	}
	if len(attrs) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(attrs, ", "))
	}
	b.WriteByte('\n')
	return b.String()
}
