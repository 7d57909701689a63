package format

import (
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"lade/internal/errdefs"
)

// Size returns a size as Docker writes it: three digits, powers of 1000.
func Size(bytes int64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }

// FineSize returns a size with four digits, as Docker writes sums.
func FineSize(bytes int64) string { return units.HumanSize(float64(bytes)) }

// Ago returns how long ago t was, such as "5 minutes ago".
func Ago(t, now time.Time) string {
	if t.IsZero() || t.Unix() <= 0 {
		return "N/A"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

// timeLayouts are the forms of a timestamp that Docker accepts, the zone and
// the finer parts left out as one likes.
var timeLayouts = []string{
	time.RFC3339Nano,
	"2006-01-02T15:04:05.999999999",
	"2006-01-02T15:04",
	"2006-01-02T15",
	"2006-01-02Z07:00",
	"2006-01-02T15:04Z07:00",
	"2006-01-02",
	"2006-01-02 15:04:05",
}

// Timestamp turns what a person writes for a moment into seconds since 1970
// with a fraction, as the API wants it: a duration before now (42m, 1h30m), a
// timestamp of RFC 3339 or a shorter form of it, or seconds since 1970. Empty
// stays empty.
func Timestamp(s string, now time.Time) (string, error) {
	if s == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		return unix(now.Add(-d)), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return unix(t), nil
		}
	}
	if isSeconds(s) {
		return s, nil
	}
	err := errdefs.New(errdefs.Invalid, "time %q: neither a moment nor a duration", s)
	return "", errdefs.Hint(err, "write 2026-01-02T15:04:05Z, 42m or seconds since 1970")
}

func unix(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + "." + fraction(t.Nanosecond())
}

func fraction(ns int) string {
	s := strconv.Itoa(ns)
	return strings.Repeat("0", 9-len(s)) + s
}

func isSeconds(s string) bool {
	whole, frac, dot := strings.Cut(s, ".")
	_, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || dot && (frac == "" || len(frac) > 9) {
		return false
	}
	for _, c := range frac {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
