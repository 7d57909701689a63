package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"lade/internal/errdefs"
	"lade/internal/registry/wire"
)

// transient marks an error that may pass, and how long the server asked to
// wait.
type transient struct {
	error
	after time.Duration
}

func (t *transient) Unwrap() error { return t.error }

func again(err error) error { return &transient{error: err} }

// retry calls fn until it succeeds, fails for good, or was tried often enough.
func (c *Client) retry(ctx context.Context, fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		t, passing := errors.AsType[*transient](err)
		if err == nil || !passing || attempt == c.o.Attempts || ctx.Err() != nil {
			return err
		}
		delay := max(t.after, c.o.Backoff<<(attempt-1))
		if t.after > c.o.Patience {
			return err
		}
		if err := c.wait(ctx, delay); err != nil {
			return err
		}
	}
}

// wait returns after d, or with the context.
func (c *Client) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unreachable says why a request to the registry got no answer. What can only
// be mended by a person is not tried again.
func unreachable(base *url.URL, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	host := base.Host
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return errdefs.Hint(errdefs.New(errdefs.Unavailable, "registry %s: no such host", host), "check the name (what stands before the first slash is the registry), and that this machine is connected")
		}
		return errdefs.Hint(again(errdefs.New(errdefs.Unavailable, "registry %s: look up its address: %w", host, err)), "is this machine connected, and is its name server right?")
	}
	certificate, isCert := errors.AsType[*tls.CertificateVerificationError](err)
	record, isRecord := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errdefs.ClassOf(err) == errdefs.Denied:
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return errdefs.Hint(errdefs.New(errdefs.Unavailable, "registry %s does not answer: connection refused", host), "is the registry running? check name and port")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return errdefs.Hint(errdefs.New(errdefs.Unavailable, "registry %s cannot be reached: %w", host, err), "is this machine connected to the network?")
	case isCert:
		return errdefs.Hint(errdefs.New(errdefs.Denied, "registry %s: its certificate is not trusted: %w", host, certificate.Err), "add its authority to this machine's certificates")
	case isRecord:
		return errdefs.Hint(errdefs.New(errdefs.Unavailable, "registry %s does not speak TLS: %w", host, record), "plain HTTP is spoken only with registries on this machine")
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return errdefs.Hint(again(errdefs.New(errdefs.Unavailable, "registry %s does not answer in time", host)), "is the registry running? check the name")
	}
	return again(errdefs.New(errdefs.Unavailable, "registry %s: %w", host, err))
}

// refused says what an answer other than success means. what is the object
// that was asked for.
func (r *Repository) refused(resp *http.Response, what string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	said := wire.ParseErrors(body)
	detail := strings.TrimSpace(resp.Status)
	if len(said) > 0 {
		detail = said[0].Message
		if detail == "" {
			detail = strings.ToLower(strings.ReplaceAll(said[0].Code, "_", " "))
		}
	}
	host := r.base.Host
	after, asked := wire.RetryAfter(resp.Header, time.Now())
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && len(said) > 0 && said[0].Code == "NAME_UNKNOWN":
		return errdefs.Hint(errdefs.New(errdefs.NotFound, "repository %s not found in %s: %s", r.name, host, detail), "check the name")
	case code == http.StatusNotFound:
		return errdefs.Hint(errdefs.New(errdefs.NotFound, "%s not found: %s", what, detail), "check name and tag")
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return r.denied(detail)
	case code == http.StatusTooManyRequests:
		err := errdefs.New(errdefs.Unavailable, "registry %s: too many requests: %s", host, detail)
		if asked {
			err = errdefs.Hint(err, "it asks to wait %s; logged in, one usually may ask for more", after.Round(time.Second))
		}
		return &transient{err, after}
	case code >= 500:
		return &transient{errdefs.New(errdefs.Unavailable, "registry %s is in trouble: %s", host, detail), after}
	case code == http.StatusRequestedRangeNotSatisfiable:
		return errdefs.New(errdefs.DataLoss, "%s: the registry's copy is shorter than announced", what)
	case code >= 200 && code < 400:
		return errdefs.New(errdefs.Unavailable, "registry %s: unexpected answer %s", host, resp.Status)
	}
	return errdefs.New(errdefs.Invalid, "%s: registry %s answers %s", what, host, detail)
}

// denied says what Docker says when a registry does not tell a missing
// repository from one that is not for everybody.
func (r *Repository) denied(detail string) error {
	if r.path == "" {
		return errdefs.Hint(errdefs.New(errdefs.Unauthorized, "registry %s does not take the credentials: %s", r.base.Host, detail), "check user name and password")
	}
	err := errdefs.New(errdefs.Unauthorized, "%s access denied for %s: it does not exist, or needs other credentials: %s", r.action(), r.name, detail)
	if r.pushes {
		return errdefs.Hint(err, "log in first: lade login %s", r.base.Host)
	}
	return errdefs.Hint(err, "check the name; for a private repository, log in first")
}
