package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lade/internal/errdefs"
)

// maxBody bounds a JSON body. The largest in use, a container's definition,
// is some tens of KiB.
const maxBody = 4 << 20

// call is one request on its way through a route.
type call struct {
	*http.Request
	w       http.ResponseWriter
	name    string     // the name in the path, or ""
	version apiVersion // that the client speaks
	query   url.Values
}

// reply answers 200 with v as JSON.
func (c *call) reply(v any) error { return c.replyStatus(http.StatusOK, v) }

// answer answers 200 with v, unless there is an error.
func (c *call) answer(v any, err error) error {
	if err != nil {
		return err
	}
	return c.reply(v)
}

func (c *call) replyStatus(status int, v any) error {
	writeJSON(c.w, status, v)
	return nil
}

// done answers 204 if err is nil.
func (c *call) done(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// decode reads a JSON body into v. Fields that v does not know are ignored: a
// newer client may send them. With no body at all v stays as it is.
func (c *call) decode(v any) error {
	if c.Body == nil || c.Body == http.NoBody || c.ContentLength == 0 {
		return nil
	}
	ct := c.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return errdefs.New(errdefs.Invalid, "malformed Content-Type header (%s): %w", ct, err)
	}
	if media != "application/json" {
		return errdefs.New(errdefs.Invalid, "unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return decodeJSON(http.MaxBytesReader(c.w, c.Body, maxBody), v)
}

// decodeJSON reads exactly one JSON value.
func decodeJSON(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	if err := dec.Decode(v); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return errdefs.New(errdefs.Invalid, "request body is larger than %d bytes", tooLarge.Limit)
		}
		if errors.Is(err, io.EOF) {
			return errdefs.New(errdefs.Invalid, "invalid JSON: got EOF while reading request body")
		}
		return errdefs.New(errdefs.Invalid, "invalid JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errdefs.New(errdefs.Invalid, "unexpected content after JSON")
	}
	return nil
}

// boolean returns a query value as Docker reads it: everything but a word for
// no means yes.
func (c *call) boolean(key string) bool {
	switch strings.ToLower(strings.TrimSpace(c.query.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// integer returns a query value as a number, or def where there is none.
func (c *call) integer(key string, def int) (int, error) {
	s := c.query.Get(key)
	if s == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errdefs.New(errdefs.Invalid, "invalid value %q for %q: want a whole number", s, key)
	}
	return int(n), nil
}

// size returns the height and width of a terminal.
func (c *call) size() (height, width uint, err error) {
	for key, to := range map[string]*uint{"h": &height, "w": &width} {
		n, err := strconv.ParseUint(c.query.Get(key), 10, 16)
		if err != nil {
			return 0, 0, errdefs.New(errdefs.Invalid, "invalid terminal size: %q is %q, want a number up to 65535", key, c.query.Get(key))
		}
		*to = uint(n)
	}
	return height, width, nil
}

// filters returns the query's "filters": a JSON object of lists, or in the
// older form of sets.
func (c *call) filters() (map[string][]string, error) {
	s := c.query.Get("filters")
	if s == "" {
		return nil, nil
	}
	var lists map[string][]string
	if err := decodeJSON(strings.NewReader(s), &lists); err == nil {
		return lists, nil
	}
	var sets map[string]map[string]bool
	if err := decodeJSON(strings.NewReader(s), &sets); err != nil {
		return nil, errdefs.New(errdefs.Invalid, "invalid filters: %w", err)
	}
	lists = make(map[string][]string, len(sets))
	for key, set := range sets {
		for value, in := range set {
			if in {
				lists[key] = append(lists[key], value)
			}
		}
	}
	return lists, nil
}

// moment returns a query value as a time: seconds since 1970 with an optional
// fraction, as Docker's client sends, or RFC 3339. Zero means none.
func (c *call) moment(key string) (time.Time, error) {
	s := c.query.Get(key)
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	var nsec int64
	if err == nil && frac != "" {
		// Digits after the ninth are below a nanosecond.
		digits := (frac + "000000000")[:9]
		n, err2 := strconv.ParseUint(digits, 10, 32)
		nsec, err = int64(n), err2
	}
	if err != nil || sec < -1<<40 || sec > 1<<40 {
		return time.Time{}, errdefs.New(errdefs.Invalid, "invalid value for %q: %q is no time; want seconds since 1970 or RFC 3339", key, s)
	}
	return time.Unix(sec, nsec), nil
}

// filtered replies what do returns for the query's filters.
func filtered[T any](c *call, do func(context.Context, map[string][]string) (T, error)) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	return c.answer(do(c.Context(), filters))
}
