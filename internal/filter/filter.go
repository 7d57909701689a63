// Package filter reads the filters that Docker's prunes have in common: until
// and label.
package filter

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"lade/internal/errdefs"
)

// Prune says what a prune may remove. The zero value lets everything go.
type Prune struct {
	until         time.Time // what is younger stays; zero: nothing does
	with, without []string  // labels, each key or key=value
}

// Prunes reads the filters of a prune, by key. Keys in also are the caller's.
func Prunes(filters map[string][]string, now time.Time, also ...string) (Prune, error) {
	var p Prune
	for key, values := range filters {
		switch key {
		case "until":
			if len(values) != 1 {
				return p, errdefs.New(errdefs.Invalid, "more than one until filter specified")
			}
			t, err := moment(values[0], now)
			if err != nil {
				return p, err
			}
			p.until = t
		case "label":
			p.with = values
		case "label!":
			p.without = values
		default:
			if !slices.Contains(also, key) {
				return p, errdefs.New(errdefs.Invalid, "invalid filter '%.50s'", key)
			}
		}
	}
	return p, nil
}

// moment reads a time: a duration before now, RFC 3339 or the beginning of it,
// or seconds since 1970 with a fraction.
func moment(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec < 0 || sec > 1<<40 {
		return time.Time{}, errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid filter 'until=%.50s'", s), "write 24h, 2026-01-02T15:04:05Z or seconds since 1970")
	}
	nsec, err := strconv.ParseUint((frac + "000000000")[:9], 10, 32)
	if err != nil {
		return time.Time{}, errdefs.New(errdefs.Invalid, "invalid filter 'until=%.50s'", s)
	}
	return time.Unix(sec, int64(nsec)), nil
}

// Match reports whether something may go that was made then and has these
// labels.
func (p Prune) Match(created time.Time, labels map[string]string) bool {
	if !p.until.IsZero() && !created.Before(p.until) {
		return false
	}
	for _, l := range p.with {
		if !has(labels, l) {
			return false
		}
	}
	return !slices.ContainsFunc(p.without, func(l string) bool { return has(labels, l) })
}

func has(labels map[string]string, want string) bool {
	key, value, valued := strings.Cut(want, "=")
	got, ok := labels[key]
	return ok && (!valued || got == value)
}
