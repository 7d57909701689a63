// Package client speaks to registries: the OCI distribution specification 1.1.
//
//	New ─▶ Source ─▶ Manifest (by tag or digest) ─▶ Blob …
//	New ─▶ Target ─▶ Connect ─▶ HasBlob, Upload … ─▶ PutManifest
//
// Registries are spoken to over TLS; over plain HTTP only if they are this
// machine (127.0.0.0/8, ::1, localhost), as in Docker. Answers are bounded and
// manifests checked against their digest; a blob's digest is checked by who
// stores it. What may pass is tried again: lost connections (a blob goes on
// where it broke off), 429 and 5xx, as long as Retry-After is bearable.
// Proxies come from the environment.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/config"
	"lade/internal/registry/wire"
	"lade/internal/version"
)

// Options says how a Client behaves. The zero value is right for most.
type Options struct {
	// Attempts is how often a request is tried in all; 0 means 5.
	Attempts int
	// Backoff is the wait before the second attempt, which doubles from then
	// on; 0 means half a second.
	Backoff time.Duration
	// Patience is the longest wait that a server may ask for; 0 means a minute.
	Patience time.Duration
	// Stall is how long a connection may be silent; 0 means a minute.
	Stall time.Duration
	// Base, where set, is used for connections instead of the client's own.
	Base http.RoundTripper
	// Places says where a repository may be asked for, the registry itself
	// last; push leaves out mirrors. Nil: where its name says.
	Places func(ref reference.Reference, push bool) ([]config.Place, error)
	// TLS says how to speak TLS with a registry; nil, and an answer of nil,
	// mean as with everybody.
	TLS func(host string) (*tls.Config, error)
}

// Client speaks to registries. Its methods may be called concurrently.
type Client struct {
	o    Options
	http *http.Client
}

// New returns a client.
func New(o Options) *Client {
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.Backoff == 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Stall == 0 {
		o.Stall = time.Minute
	}
	base := o.Base
	if base == nil {
		base = newTransport(o.Stall)
	}
	return &Client{o: o, http: &http.Client{Transport: base, CheckRedirect: checkRedirect}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Repository is one repository of a registry, and who asks for it.
type Repository struct {
	c      *Client
	base   *url.URL
	name   string // as people write it
	path   string
	pushes bool
	http   *http.Client
	// insecure: plain HTTP will do, if there is no TLS.
	insecure bool
	session  *auth.Session
}

// Repository returns the repository of ref in its registry, seen with the given
// credentials. Mirrors are not asked: see Source.
func (c *Client) Repository(ref reference.Reference, cred auth.Credentials) (*Repository, error) {
	places, err := c.places(ref, true)
	if err != nil {
		return nil, err
	}
	return c.at(places[len(places)-1], ref, cred, "pull")
}

// Target returns the repository of ref to push to. Blobs may be mounted from
// the given other repositories of the same registry.
func (c *Client) Target(ref reference.Reference, cred auth.Credentials, from ...string) (*Repository, error) {
	places, err := c.places(ref, true)
	if err != nil {
		return nil, err
	}
	return c.at(places[len(places)-1], ref, cred, "pull,push", from...)
}

func (c *Client) places(ref reference.Reference, push bool) ([]config.Place, error) {
	if c.o.Places == nil {
		return []config.Place{{Domain: ref.Domain, Path: ref.Path}}, nil
	}
	return c.o.Places(ref, push)
}

// at returns a repository at one place, for the given actions. Credentials are
// for the registry that the reference names, and for no mirror of it.
func (c *Client) at(p config.Place, ref reference.Reference, cred auth.Credentials, actions string, from ...string) (*Repository, error) {
	if p.Domain != ref.Domain {
		cred = auth.Credentials{}
	}
	r := &Repository{c: c, name: ref.FamiliarName(), path: p.Path, pushes: strings.Contains(actions, "push"), insecure: p.Insecure}
	if p.Mirror {
		r.name = reference.Reference{Domain: p.Domain, Path: p.Path}.FamiliarName()
	}
	if err := r.reach(p.Domain); err != nil {
		return nil, err
	}
	scopes := []string{"repository:" + p.Path + ":" + actions}
	for _, f := range from {
		scopes = append(scopes, "repository:"+f+":pull")
	}
	r.session = auth.NewSession(r.base, strings.Join(scopes, " "), cred, r.http)
	r.session.Plain = p.Insecure
	return r, nil
}

// reach settles how the registry of a domain is spoken to.
func (r *Repository) reach(domain string) error {
	r.base, r.http = origin(domain), r.c.http
	var own *tls.Config
	if r.c.o.TLS != nil {
		var err error
		if own, err = r.c.o.TLS(domain); err != nil {
			return err
		}
	}
	if own == nil && !r.insecure {
		return nil
	}
	r.base.Scheme = "https"
	if own == nil {
		own = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	own.InsecureSkipVerify = r.insecure //nolint:gosec // the administrator says so, for this registry
	hc := *r.c.http
	hc.Transport = hostTransport{r.base.Host, newTransportTLS(r.c.o.Stall, own), r.c.http.Transport}
	r.http = &hc
	return nil
}

// Login tries credentials at a registry. It returns an identity token, which
// stands for them from then on, if the registry gives one.
func (c *Client) Login(ctx context.Context, domain string, cred auth.Credentials) (identityToken string, err error) {
	places, err := c.places(reference.Reference{Domain: domain, Path: "x"}, true)
	if err != nil {
		return "", err
	}
	r := &Repository{c: c, name: domain, insecure: places[len(places)-1].Insecure}
	if err := r.reach(domain); err != nil {
		return "", err
	}
	r.session = auth.NewSession(r.base, "", cred, r.http)
	r.session.Offline, r.session.Plain = true, r.insecure
	if err := r.Connect(ctx); err != nil {
		return "", err
	}
	return r.session.IdentityToken(), nil
}

// action is what the repository is asked for, as messages say it.
func (r *Repository) action() string {
	if r.pushes {
		return "push"
	}
	return "pull"
}

// origin returns where the registry of a domain is.
func origin(domain string) *url.URL {
	u := &url.URL{Scheme: "https", Host: domain}
	if domain == "docker.io" {
		u.Host = "registry-1.docker.io"
	}
	if auth.Loopback(u.Hostname()) {
		u.Scheme = "http"
	}
	return u
}

func (r *Repository) url(kind, object string) string {
	u := *r.base
	u.Path = "/v2/" + r.path + "/" + kind + "/" + object
	return u.String()
}

// accept lists the manifests that Lade reads.
func accept() []string {
	return []string{ocispec.MediaTypeImageIndex, image.DockerList, ocispec.MediaTypeImageManifest, image.DockerManifest}
}

// Manifest fetches a manifest or index by tag or digest. The descriptor holds
// the digest of the bytes, which is the one asked for if one was, and the media
// type that the server gave, or "" if that says nothing.
func (r *Repository) Manifest(ctx context.Context, object string) ([]byte, ocispec.Descriptor, error) {
	name := r.name + ":" + object
	want := digest.Digest("")
	if strings.Contains(object, ":") {
		want = digest.Digest(object)
		name = r.name + "@" + object
		if err := reference.CheckDigest(want); err != nil {
			return nil, ocispec.Descriptor{}, err
		}
	}
	var raw []byte
	var header http.Header
	err := r.c.retry(ctx, func() error {
		resp, err := r.get(ctx, r.url("manifests", object), http.Header{"Accept": {strings.Join(accept(), ", ")}})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return r.refused(resp, "manifest for "+name)
		}
		header = resp.Header
		raw, err = readAll(resp.Body, image.MaxManifest)
		return err
	})
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, err := describe(raw, header, want)
	if err != nil {
		return nil, desc, fmt.Errorf("manifest for %s: %w", name, err)
	}
	return raw, desc, nil
}

// describe checks what came against what was asked for and what was announced.
func describe(raw []byte, h http.Header, want digest.Digest) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if want == "" {
		// What a tag leads to has the digest that the server says, if it says
		// one that Lade works with.
		if said := digest.Digest(h.Get("Docker-Content-Digest")); said != "" && reference.CheckDigest(said) == nil {
			want = said
		}
	}
	if want != "" {
		d.Digest = want.Algorithm().FromBytes(raw)
		if d.Digest != want {
			return d, errdefs.New(errdefs.DataLoss, "wrong digest: the bytes have %s, not %s", d.Digest, want)
		}
	}
	mt, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err == nil && mt != "application/json" && mt != "text/plain" && mt != "application/octet-stream" {
		d.MediaType = mt
	}
	return d, nil
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, again(err)
	case n > limit:
		return nil, errdefs.New(errdefs.Exhausted, "manifest is longer than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// request is one request to a registry, which may have to be sent twice.
type request struct {
	method, url string
	header      http.Header
	body        func() (io.ReadCloser, error) // nil: there is none
	size        int64                         // of the body
}

func (q request) build(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, nil)
	if err != nil {
		return nil, errdefs.With(errdefs.Invalid, err)
	}
	req.Header = q.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", "lade/"+version.Version)
	if q.body == nil {
		return req, nil
	}
	if req.Body, err = q.body(); err != nil {
		return nil, err
	}
	req.GetBody, req.ContentLength = q.body, q.size
	if q.size == 0 { // Go would take it for a length that is not known
		_ = req.Body.Close()
		req.Body, req.GetBody = http.NoBody, nil
	}
	return req, nil
}

// get sends a GET.
func (r *Repository) get(ctx context.Context, u string, h http.Header) (*http.Response, error) {
	return r.send(ctx, request{method: http.MethodGet, url: u, header: h})
}

// send sends a request, and once more if the server asked for credentials.
func (r *Repository) send(ctx context.Context, q request) (*http.Response, error) {
	for round := 0; ; round++ {
		req, err := q.build(ctx)
		if err != nil {
			return nil, err
		}
		resp, err := r.do(req)
		if err != nil {
			if r.plain(err) {
				q.url = strings.Replace(q.url, "https:", "http:", 1)
				return r.send(ctx, q)
			}
			return nil, unreachable(r.base, err)
		}
		if r.wantsTLS(resp) {
			q.url = strings.Replace(q.url, "http:", "https:", 1)
			return r.send(ctx, q)
		}
		if resp.StatusCode != http.StatusUnauthorized || round > 0 {
			return resp, nil
		}
		challenges := wire.ParseChallenges(resp.Header.Values("WWW-Authenticate"))
		drain(resp)
		if err := r.session.Answer(ctx, challenges); errors.Is(err, auth.ErrNoAnswer) {
			return nil, r.denied("401 Unauthorized")
		} else if err != nil && r.path == "" {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("%s access denied for %s: %w", r.action(), r.name, err)
		}
	}
}

// plain reports whether a registry that need not speak TLS does not, and turns
// to plain HTTP, as wantsTLS does the other way.
func (r *Repository) plain(err error) bool {
	_, isRecord := errors.AsType[tls.RecordHeaderError](err)
	// Since Go 1.21 that one is hidden where the server said it in HTTP.
	if !r.insecure || r.base.Scheme != "https" || !isRecord && !strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") && !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	r.base.Scheme = "http"
	return true
}

// wantsTLS reports whether a registry on this machine answered plain HTTP with
// what Go's servers say when they speak TLS, and turns to TLS. That happens at
// a repository's first request or never, so nobody reads base meanwhile.
func (r *Repository) wantsTLS(resp *http.Response) bool {
	if r.base.Scheme != "http" || resp.StatusCode != http.StatusBadRequest || resp.Request.URL.Host != r.base.Host {
		return false
	}
	const says = "Client sent an HTTP request to an HTTPS server"
	head := make([]byte, len(says))
	n, _ := io.ReadFull(resp.Body, head)
	if string(head[:n]) != says {
		resp.Body = readCloser{io.MultiReader(bytes.NewReader(head[:n]), resp.Body), resp.Body}
		return false
	}
	drain(resp)
	r.base.Scheme = "https"
	return true
}

type readCloser struct {
	io.Reader
	io.Closer
}

// do sends a request with the session's authorization. Go copies headers on
// redirects, also to other ports and subdomains, so the authorization is not
// among them: it is added below the redirects, to requests that go to the
// registry's own origin.
func (r *Repository) do(req *http.Request) (*http.Response, error) {
	hc := *r.http
	hc.Transport = authorizing{r.session, r.http.Transport}
	return hc.Do(req)
}

type authorizing struct {
	session *auth.Session
	base    http.RoundTripper
}

func (a authorizing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.Header.Del("Referer")
	a.session.Authorize(r)
	return a.base.RoundTrip(r)
}

// drain lets the connection be used again, if little is left to read.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}
