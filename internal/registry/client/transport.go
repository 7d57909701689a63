package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"lade/internal/errdefs"
	"lade/internal/registry/auth"
)

// transport sends plain HTTP to this machine over connections that go nowhere
// else, and all the rest as usual. Requests that bring bytes have connections
// of their own: a registry may take long to answer them, since it has to store
// what came; who sends them watches over that.
type transport struct {
	local, world     *http.Transport
	localUp, worldUp *http.Transport
}

// hostTransport speaks to one host in a way of its own: with a certificate that
// shows who is there, or without checking the other's. No other host that the
// first one leads to gets either.
type hostTransport struct {
	host      string
	own, rest http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t hostTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.EqualFold(r.URL.Host, t.host) {
		return t.own.RoundTrip(r)
	}
	return t.rest.RoundTrip(r)
}

func newTransport(stall time.Duration) *transport { return newTransportTLS(stall, nil) }

func newTransportTLS(stall time.Duration, how *tls.Config) *transport {
	world := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  stall,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 256 << 10,
		// Bytes must come as they are stored, or no digest fits.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		ReadBufferSize:     64 << 10,
	}
	world.TLSClientConfig = how
	local := world.Clone()
	local.Proxy = nil
	local.ForceAttemptHTTP2 = false
	local.DialContext = (&net.Dialer{Timeout: 30 * time.Second, Control: onlyLoopback}).DialContext
	t := &transport{local: local, world: world, localUp: local.Clone(), worldUp: world.Clone()}
	t.localUp.ResponseHeaderTimeout, t.worldUp.ResponseHeaderTimeout = 0, 0
	return t
}

// onlyLoopback refuses connections that leave the machine: "localhost" is
// whatever the resolver says.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return errdefs.New(errdefs.Denied, "plain HTTP to %s: it is not this machine", address)
	}
	return nil
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	local, up := r.URL.Scheme == "http" && auth.Loopback(r.URL.Hostname()), r.ContentLength != 0
	switch {
	case local && up:
		return t.localUp.RoundTrip(r)
	case local:
		return t.local.RoundTrip(r)
	case up:
		return t.worldUp.RoundTrip(r)
	}
	return t.world.RoundTrip(r)
}

// CloseIdleConnections lets http.Client close them.
func (t *transport) CloseIdleConnections() {
	for _, one := range []*http.Transport{t.local, t.world, t.localUp, t.worldUp} {
		one.CloseIdleConnections()
	}
}

// checkRedirect bounds redirects and keeps TLS where it was.
func checkRedirect(r *http.Request, via []*http.Request) error {
	const most = 10
	switch {
	case len(via) >= most:
		return errdefs.With(errdefs.Unavailable, fmt.Errorf("more than %d redirects", most))
	case r.URL.Scheme != "https" && r.URL.Scheme != "http":
		return errdefs.New(errdefs.Denied, "redirect to a %q address", r.URL.Scheme)
	case r.URL.User != nil:
		return errdefs.With(errdefs.Denied, errors.New("redirect to an address with a password"))
	case via[0].URL.Scheme == "https" && r.URL.Scheme == "http":
		return errdefs.New(errdefs.Denied, "redirect from TLS to plain HTTP at %s", r.URL.Host)
	}
	return nil
}
