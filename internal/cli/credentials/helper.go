package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// helper is a program docker-credential-NAME, which keeps credentials in a
// keyring or fetches them from a cloud. Its protocol is
// github.com/docker/docker-credential-helpers': the verb is the argument, the
// registry or JSON comes on stdin, JSON or an error's text leaves on stdout.
type helper struct{ name string }

// What helpers say when they have nothing.
const (
	notFound = "credentials not found in native keychain"
	noServer = "no credentials server URL"
)

// tokenUser is the user whose secret is an identity token.
const tokenUser = "<token>"

// maxAnswer bounds what a helper prints.
const maxAnswer = 1 << 20

func (h helper) call(ctx context.Context, verb string, in []byte) ([]byte, error) {
	if h.name == "" || strings.ContainsAny(h.name, "/\\") {
		return nil, errdefs.New(errdefs.Invalid, "credential helper %q: not the name of a program", h.name)
	}
	program := "docker-credential-" + h.name
	c := exec.CommandContext(ctx, program, verb)
	c.Stdin = bytes.NewReader(in)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &limited{w: &out, left: maxAnswer}, &limited{w: &errs, left: 4096}
	err := c.Run()
	said := strings.TrimSpace(out.String())
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errdefs.Hint(errdefs.New(errdefs.NotFound, "credential helper %s: there is no such program", program), "install it, or take its name out of docker's config.json")
	case err != nil && (said == notFound || strings.Contains(said, noServer)):
		return nil, errdefs.New(errdefs.NotFound, "%s", said)
	case err != nil:
		if said == "" {
			said = strings.TrimSpace(errs.String())
		}
		return nil, errdefs.New(errdefs.Unavailable, "credential helper %s: %s: %s (%w)", program, verb, clip(said), err)
	}
	return out.Bytes(), nil
}

// clip makes foreign text fit for a message.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 300)]
}

// limited passes on so many bytes and drops the rest.
type limited struct {
	w    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.w.Write(p[:n])
	l.left -= n
	return len(p), nil
}

// credentials is the protocol's own form.
type secret struct {
	ServerURL, Username, Secret string
}

// get returns what the helper has for a server: nothing is no error.
func (h helper) get(ctx context.Context, server string) (registry.AuthConfig, error) {
	out, err := h.call(ctx, "get", []byte(server))
	if errdefs.Is(err, errdefs.NotFound) && strings.Contains(err.Error(), "not found in") || err != nil && strings.Contains(err.Error(), noServer) {
		return registry.AuthConfig{}, nil
	}
	if err != nil {
		return registry.AuthConfig{}, err
	}
	var s secret
	if err := json.Unmarshal(out, &s); err != nil {
		return registry.AuthConfig{}, errdefs.New(errdefs.Unavailable, "credential helper docker-credential-%s: its answer is not JSON", h.name)
	}
	a := registry.AuthConfig{Username: s.Username, Password: s.Secret, ServerAddress: server}
	if s.Username == tokenUser {
		a.Username, a.Password, a.IdentityToken = "", "", s.Secret
	}
	return a, nil
}

func (h helper) store(ctx context.Context, server string, a registry.AuthConfig) error {
	s := secret{server, a.Username, a.Password}
	if a.IdentityToken != "" {
		s.Username, s.Secret = tokenUser, a.IdentityToken
	}
	in, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = h.call(ctx, "store", in)
	return err
}

func (h helper) erase(ctx context.Context, server string) error {
	_, err := h.call(ctx, "erase", []byte(server))
	return err
}
