// Package auth answers a registry's challenges, and keeps credentials at home.
//
// Credentials belong to the registry that they were given for. They are sent
//
//   - to that registry's own origin (scheme, host and port), over TLS, or over
//     plain HTTP if the registry is this machine;
//   - to the token server that the registry names, if that is at the same
//     origin, or speaks TLS and is a host of the same registered domain, as
//     auth.docker.io is to registry-1.docker.io.
//
// Never to anywhere else: a registry that names another's token server gets an
// anonymous token, and if that does not do, an error that says why. (Docker
// sends a password to whatever realm the registry names: a registry that was
// broken into, or a typing error in its name, costs the password.) Redirects
// carry no credentials at all.
package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"lade/internal/errdefs"
	"lade/internal/registry/wire"
)

// maxToken bounds a token server's answer.
const maxToken = 1 << 20

// Credentials are what a user has for one registry. The zero value is nobody.
type Credentials struct {
	Username, Password string
	// IdentityToken stands for a user at the token server (OAuth 2).
	IdentityToken string
	// RegistryToken is a token that the registry itself takes.
	RegistryToken string
}

func (c Credentials) basic() bool { return c.Username != "" || c.Password != "" }

// Session authorises requests for one scope at one registry. Its methods may
// be called concurrently.
type Session struct {
	// Offline asks token servers for an identity token too. It is set before
	// the first request.
	Offline bool
	// Plain allows to send credentials to the registry, and to a token server
	// at its origin, over plain HTTP. It is set before the first request.
	Plain bool

	registry *url.URL
	cred     Credentials
	scope    string
	http     *http.Client
	now      func() time.Time

	mu      sync.Mutex
	header  string    // guarded by mu
	expires time.Time // guarded by mu; zero: never
	// identity is the identity token that came with one for the registry.
	identity string // guarded by mu
}

// NewSession returns a session for requests to the registry at base, of which
// scheme and host count, within scope ("repository:library/debian:pull"; of
// several, a space stands between them).
// The client is used for token servers; it must not add credentials.
func NewSession(base *url.URL, scope string, cred Credentials, hc *http.Client) *Session {
	s := &Session{registry: base, cred: cred, scope: scope, now: time.Now}
	c := *hc
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.http = &c
	if cred.RegistryToken != "" {
		s.header = "Bearer " + cred.RegistryToken
	}
	return s
}

// Authorize adds what the session has to a request, if it goes to the
// registry's own origin.
func (s *Session) Authorize(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.header == "" || !sameOrigin(r.URL, s.registry) {
		return
	}
	if !s.expires.IsZero() && s.now().After(s.expires) {
		return // the registry will ask again
	}
	r.Header.Set("Authorization", s.header)
}

// ErrNoAnswer is what Answer returns if there is nothing to answer with.
var ErrNoAnswer = errors.New("no credentials for this registry")

// Answer obtains what the challenges ask for. Requests can then be tried again.
func (s *Session) Answer(ctx context.Context, challenges []wire.Challenge) error {
	if s.cred.RegistryToken != "" {
		return ErrNoAnswer // it was refused
	}
	for _, c := range challenges {
		switch {
		case c.Scheme == "bearer" && c.Params["realm"] != "":
			t, err := s.token(ctx, c)
			if err != nil {
				return err
			}
			s.set("Bearer "+t.Value, t.Expires)
			s.mu.Lock()
			s.identity = t.Refresh
			s.mu.Unlock()
			return nil
		case c.Scheme == "basic" && s.cred.basic():
			if !safe(s.registry) && !s.Plain {
				return errdefs.New(errdefs.Denied, "registry %s asks for a password over plain HTTP: not sent", s.registry.Host)
			}
			r := &http.Request{Header: http.Header{}}
			r.SetBasicAuth(s.cred.Username, s.cred.Password)
			s.set(r.Header.Get("Authorization"), time.Time{})
			return nil
		}
	}
	return ErrNoAnswer
}

// IdentityToken returns the identity token that a token server gave, or "".
func (s *Session) IdentityToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

func (s *Session) set(header string, expires time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header = header
	s.expires = expires
	if !expires.IsZero() {
		s.expires = expires.Add(-5 * time.Second) // it must last until it arrives
	}
}

// token asks the token server that a challenge names.
func (s *Session) token(ctx context.Context, c wire.Challenge) (wire.Token, error) {
	realm, err := url.Parse(c.Params["realm"])
	if err != nil || realm.Host == "" || realm.User != nil || realm.Scheme != "https" && realm.Scheme != "http" {
		return wire.Token{}, errdefs.New(errdefs.Denied, "registry %s names the token server %q: not a server's address", s.registry.Host, wire.Clean(c.Params["realm"], 200))
	}
	if own := s.Plain && sameOrigin(realm, s.registry); realm.Scheme == "http" && !own && (s.registry.Scheme != "http" || !Loopback(realm.Hostname())) {
		return wire.Token{}, errdefs.New(errdefs.Denied, "registry %s names a token server without TLS, %s: not asked", s.registry.Host, realm.Host)
	}
	trusted := s.trusts(realm)
	r, err := s.tokenRequest(ctx, realm, c.Params["service"], trusted)
	if err != nil {
		return wire.Token{}, err
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return wire.Token{}, errdefs.With(errdefs.Unavailable, fmt.Errorf("ask the token server %s: %w", realm.Host, err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	if err != nil {
		return wire.Token{}, errdefs.With(errdefs.Unavailable, fmt.Errorf("ask the token server %s: %w", realm.Host, err))
	}
	if len(body) > maxToken {
		return wire.Token{}, errdefs.New(errdefs.Exhausted, "the answer of the token server %s is longer than %d bytes", realm.Host, maxToken)
	}
	if resp.StatusCode != http.StatusOK {
		return wire.Token{}, s.refusal(realm, resp.StatusCode, trusted)
	}
	return wire.ParseToken(body, s.now())
}

func (s *Session) refusal(realm *url.URL, status int, trusted bool) error {
	err := errdefs.New(errdefs.Unauthorized, "the token server %s answers %d %s", realm.Host, status, http.StatusText(status))
	switch {
	case status >= 500 || status == http.StatusTooManyRequests:
		return errdefs.With(errdefs.Unavailable, err)
	case !trusted && (s.cred.basic() || s.cred.IdentityToken != ""):
		return errdefs.Hint(err, "the credentials for %s were not sent there, since it belongs to someone else", s.registry.Host)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return errdefs.Hint(err, "check user name and password")
	}
	return err
}

func (s *Session) tokenRequest(ctx context.Context, realm *url.URL, service string, trusted bool) (*http.Request, error) {
	q := realm.Query()
	if service != "" {
		q.Set("service", service)
	}
	if s.scope != "" {
		q.Set("scope", s.scope)
	}
	if trusted && s.cred.IdentityToken != "" {
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", s.cred.IdentityToken)
		q.Set("client_id", "lade")
		u := *realm
		u.RawQuery = ""
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(q.Encode()))
		if err == nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return r, err
	}
	// A GET has one parameter for each scope, where OAuth has a list.
	if s.scope != "" {
		q["scope"] = strings.Fields(s.scope)
	}
	if trusted && s.Offline && s.cred.basic() {
		q.Set("offline_token", "true")
		q.Set("client_id", "lade")
		q.Set("account", s.cred.Username)
	}
	u := *realm
	u.RawQuery = q.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && trusted && s.cred.basic() {
		r.SetBasicAuth(s.cred.Username, s.cred.Password)
	}
	return r, err
}

// trusts reports whether the token server may see the credentials.
func (s *Session) trusts(realm *url.URL) bool {
	if s.Plain && sameOrigin(realm, s.registry) {
		return true
	}
	if !safe(realm) {
		return false
	}
	return sameOrigin(realm, s.registry) || realm.Scheme == "https" && s.registry.Scheme == "https" && sameDomain(realm.Hostname(), s.registry.Hostname())
}

// sameDomain reports whether two host names were registered by the same owner.
func sameDomain(a, b string) bool {
	if net.ParseIP(a) != nil || net.ParseIP(b) != nil {
		return false
	}
	da, err1 := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(a))
	db, err2 := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(b))
	return err1 == nil && err2 == nil && da == db
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// safe reports whether what is sent to u cannot be read on the way.
func safe(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname())
}

// Loopback reports whether host names this machine: 127.0.0.0/8, ::1 or
// localhost. The dialer checks that localhost really leads there.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}
