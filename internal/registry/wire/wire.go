// Package wire reads and writes what registries and their clients say to each
// other beyond plain HTTP: challenges, error bodies, tokens. It is pure, and
// reads foreign bytes: every limit is here.
//
// The protocol is the OCI distribution specification; the challenges follow
// RFC 9110, section 11, and Docker's token authentication.
package wire

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lade/internal/errdefs"
)

// Challenge is one way in which a server asks for credentials.
type Challenge struct {
	Scheme string            // in lower case: basic, bearer
	Params map[string]string // names in lower case
}

const (
	maxHeader     = 16 << 10
	maxChallenges = 16
	maxParams     = 32
)

// ParseChallenges reads WWW-Authenticate headers. What it cannot read it
// leaves out: a client picks a challenge that it understands.
func ParseChallenges(headers []string) []Challenge {
	var all []Challenge
	for _, h := range headers {
		if len(h) > maxHeader {
			continue
		}
		p := parser{h}
		for len(all) < maxChallenges {
			c, ok := p.challenge()
			if !ok {
				break
			}
			all = append(all, c)
		}
	}
	return all
}

type parser struct{ rest string }

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t,") }

// token reads a run of token characters.
func (p *parser) token() string {
	i := 0
	for i < len(p.rest) && isToken(p.rest[i]) {
		i++
	}
	t := p.rest[:i]
	p.rest = p.rest[i:]
	return t
}

func isToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func (p *parser) challenge() (Challenge, bool) {
	p.space()
	c := Challenge{Scheme: strings.ToLower(p.token()), Params: map[string]string{}}
	if c.Scheme == "" {
		return c, false
	}
	for len(c.Params) < maxParams {
		// A name with = belongs to this challenge; one without begins the next.
		before := p.rest
		p.space()
		name := strings.ToLower(p.token())
		p.rest = strings.TrimLeft(p.rest, " \t")
		value, isParam := strings.CutPrefix(p.rest, "=")
		if name == "" || !isParam {
			p.rest = before
			return c, true
		}
		p.rest = strings.TrimLeft(value, " \t")
		v, ok := p.value()
		if !ok {
			p.rest = ""
			return c, true
		}
		if _, twice := c.Params[name]; !twice {
			c.Params[name] = v
		}
	}
	return c, true
}

func (p *parser) value() (string, bool) {
	if !strings.HasPrefix(p.rest, `"`) {
		v := p.token()
		return v, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// Error is one entry of an error body.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// ParseErrors reads an error body, and returns nothing if it is none.
func ParseErrors(body []byte) []Error {
	var b struct {
		Errors []Error `json:"errors"`
	}
	if json.Unmarshal(body, &b) != nil {
		return nil
	}
	const most = 8
	if len(b.Errors) > most {
		b.Errors = b.Errors[:most]
	}
	for i := range b.Errors {
		b.Errors[i].Code = Clean(b.Errors[i].Code, 64)
		b.Errors[i].Message = Clean(b.Errors[i].Message, 256)
	}
	return b.Errors
}

// Clean makes foreign text fit for a message: no control characters, at most n
// bytes.
func Clean(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), n)], "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s))
}

// Token is the answer of a token server.
type Token struct {
	Value   string
	Refresh string // an identity token, or ""
	Expires time.Time
}

// ParseToken reads a token server's answer. A token lives for a minute if the
// server does not say, as the protocol has it.
func ParseToken(body []byte, now time.Time) (Token, error) {
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		Refresh     string `json:"refresh_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return Token{}, errdefs.New(errdefs.Unavailable, "read token: %w", err)
	}
	if t.Token == "" {
		t.Token = t.AccessToken
	}
	switch {
	case t.Token == "":
		return Token{}, errdefs.With(errdefs.Unavailable, errors.New("the token server's answer holds no token"))
	case strings.ContainsFunc(t.Token+t.Refresh, func(r rune) bool { return r <= ' ' || r > '~' }):
		return Token{}, errdefs.With(errdefs.Unavailable, errors.New("the token server's answer is no token"))
	}
	const shortest, longest = 60, 24 * 3600
	life := min(max(t.ExpiresIn, shortest), longest)
	return Token{t.Token, t.Refresh, now.Add(time.Duration(life) * time.Second)}, nil
}

// RetryAfter returns how long a server asks to wait: seconds or a date.
func RetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if v == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// ContentRange returns where the body of a 206 begins, and the whole length,
// which is -1 if the server does not say.
func ContentRange(v string) (start, total int64, ok bool) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, whole, ok := strings.Cut(rest, "/")
	first, _, dash := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if !ok || !dash || err != nil || start < 0 {
		return 0, 0, false
	}
	if whole == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(whole, 10, 64)
	return start, total, err == nil && total >= 0
}
