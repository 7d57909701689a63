package auth

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// FromDocker reads the credentials that a client of Docker's API sent along for
// the registry of a domain. Credentials that were given for another registry
// are refused: they would tell this one.
func FromDocker(a *registry.AuthConfig, domain string) (Credentials, error) {
	if a == nil {
		return Credentials{}, nil
	}
	c := Credentials{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth != "" && c.Username == "" && c.Password == "" {
		raw, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(raw), ":")
		if err != nil || !ok {
			return Credentials{}, errdefs.With(errdefs.Invalid, errors.New("the credentials are not base64 of user:password"))
		}
		c.Username, c.Password = user, password
	}
	if c == (Credentials{}) || a.ServerAddress == "" {
		return c, nil
	}
	if of := ServerDomain(a.ServerAddress); of != domain {
		return Credentials{}, errdefs.New(errdefs.Invalid, "the credentials are for the registry %s, not for %s", of, domain)
	}
	return c, nil
}

// ServerDomain returns the registry that docker's configuration means by an
// address: https://index.docker.io/v1/ is docker.io.
func ServerDomain(address string) string {
	s := strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	s, _, _ = strings.Cut(s, "/")
	switch s {
	case "", "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return s
}
