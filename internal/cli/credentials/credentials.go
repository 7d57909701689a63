// Package credentials finds and keeps what a person has for registries: where
// docker, podman and Lade itself keep it.
//
// Lookup asks, in this order,
//
//  1. Lade's own store: one sealed file for each registry;
//  2. docker's config.json: the helper of the registry, the helper of all
//     (credsStore), and what stands there in plain text;
//  3. the auth.json of podman, buildah and skopeo: likewise, also for single
//     namespaces and repositories.
//
// Save gives them to docker's helper, if there is one, so that docker knows
// them too, and otherwise to Lade's own store; never to a file in plain text.
// Erase takes them away wherever docker or Lade would find them.
//
// What seals the files is a key of this user on this machine, kept elsewhere: a
// copy of the configuration (a backup, a repository of dot files, a layer of an
// image) gives nothing away. It is no protection from whoever can read all of
// the user's files; a helper with a keyring is.
package credentials

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// Hub is how docker's files and helpers call Docker Hub.
const Hub = "https://index.docker.io/v1/"

// hubDomain is how references call it.
const hubDomain = "docker.io"

// Store is the credentials of one user. It keeps nothing in memory.
type Store struct {
	getenv func(string) string
}

// New returns the store of the user whom the environment is of.
func New(getenv func(string) string) *Store { return &Store{getenv} }

// Domain returns the registry that an address or a configuration's key means,
// as references call it: https://index.docker.io/v1/ is docker.io.
func Domain(server string) string {
	s := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	s, _, _ = strings.Cut(s, "/")
	switch s {
	case "", "index.docker.io", "registry-1.docker.io":
		return hubDomain
	}
	return s
}

// address is what docker calls a registry.
func address(domain string) string {
	if domain == hubDomain {
		return Hub
	}
	return domain
}

// Lookup returns what there is for a repository, such as
// docker.io/library/debian, or for a registry. Nothing is no error. What was
// found along with an error is what there is in the places that could be read.
func (s *Store) Lookup(ctx context.Context, repository string) (registry.AuthConfig, error) {
	domain, _, _ := strings.Cut(repository, "/")
	own, err := s.open(domain)
	if err != nil || own != (registry.AuthConfig{}) {
		return own, err
	}
	found, err := s.docker().lookup(ctx, domain, []string{domain})
	if err != nil || found != (registry.AuthConfig{}) {
		return found, err
	}
	for _, path := range s.containersFiles() {
		found, err := (file{path, s.getenv}).lookup(ctx, domain, prefixes(repository))
		if err != nil || found != (registry.AuthConfig{}) {
			return found, err
		}
	}
	return registry.AuthConfig{}, nil
}

// prefixes returns what may stand for a repository in auth.json, the most
// exact first.
func prefixes(repository string) []string {
	var all []string
	for {
		all = append(all, repository)
		i := strings.LastIndexByte(repository, '/')
		if i < 0 {
			return all
		}
		repository = repository[:i]
	}
}

// Save keeps credentials. It returns where, for people.
func (s *Store) Save(ctx context.Context, c registry.AuthConfig) (string, error) {
	domain := Domain(c.ServerAddress)
	name, err := s.docker().helper(domain)
	if err != nil {
		return "", err
	}
	if name == "" {
		return s.seal(domain, c)
	}
	if err := (helper{name}).store(ctx, address(domain), c); err != nil {
		return "", err
	}
	// What was sealed before would be found first.
	_, err = s.remove(domain)
	return "docker-credential-" + name, err
}

// Erase forgets the credentials of a registry, and reports whether there were
// any. Those that only other tools keep stay: left names the file.
func (s *Store) Erase(ctx context.Context, server string) (erased bool, left string, err error) {
	domain := Domain(server)
	own, err := s.remove(domain)
	if err != nil {
		return own, "", err
	}
	others, err := s.docker().erase(ctx, domain)
	if err != nil {
		return own || others, "", err
	}
	for _, path := range s.containersFiles() {
		if c, err := (file{path, s.getenv}).lookup(ctx, domain, []string{domain}); err == nil && c != (registry.AuthConfig{}) {
			left = path
		}
	}
	return own || others, left, nil
}

// docker returns docker's configuration.
func (s *Store) docker() file {
	dir := s.getenv("DOCKER_CONFIG")
	if dir == "" {
		dir = filepath.Join(s.getenv("HOME"), ".docker")
	}
	return file{filepath.Join(dir, "config.json"), s.getenv}
}

// containersFiles returns where podman and its kin keep their credentials.
func (s *Store) containersFiles() []string {
	if p := s.getenv("REGISTRY_AUTH_FILE"); p != "" {
		return []string{p}
	}
	var all []string
	if dir := s.getenv("XDG_RUNTIME_DIR"); dir != "" {
		all = append(all, filepath.Join(dir, "containers", "auth.json"))
	} else if os.Geteuid() == 0 {
		all = append(all, "/run/containers/0/auth.json")
	}
	config := s.getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(s.getenv("HOME"), ".config")
	}
	return append(all, filepath.Join(config, "containers", "auth.json"))
}

// home returns a directory of the user's, by its variable or its usual place.
func (s *Store) home(variable, usual string) (string, error) {
	if dir := s.getenv(variable); dir != "" {
		return dir, nil
	}
	home := s.getenv("HOME")
	if home == "" {
		return "", errdefs.New(errdefs.Invalid, "there is no place for credentials: neither %s nor HOME is set", variable)
	}
	return filepath.Join(home, usual), nil
}
