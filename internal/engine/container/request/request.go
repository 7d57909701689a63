// Package request reads what a client asks of a new container: it merges the
// image's configuration into the request as Docker does, and refuses what can
// never work, in Docker's words where its clients know them.
//
// All of it comes from strangers: the request from whoever reaches the socket,
// the image's part from whoever made the image. So every string is parsed
// strictly, and nothing in an image reaches the host: an environment entry
// without a value, which some engines fill from their own environment
// (CVE-2026-57231), is dropped. The package is pure.
package request

import (
	"maps"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// Merge completes a request's configuration with the image's.
func Merge(user *api.Config, img ocispec.ImageConfig) (*api.Config, error) {
	c := *user
	if c.User == "" {
		c.User = img.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = img.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = img.StopSignal
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = slices.Clone(img.Cmd)
		}
		if c.Entrypoint == nil {
			c.Entrypoint = slices.Clone(img.Entrypoint)
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // docker run --entrypoint ""
		c.Entrypoint = nil
	}
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return nil, errdefs.New(errdefs.Invalid, "no command specified")
	}
	c.Env = mergeEnv(user.Env, img.Env)
	c.Labels = map[string]string{}
	maps.Copy(c.Labels, img.Labels)
	maps.Copy(c.Labels, user.Labels)
	c.Volumes = maps.Clone(user.Volumes)
	for v := range img.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
	var err error
	c.ExposedPorts, err = mergePorts(user.ExposedPorts, img.ExposedPorts)
	return &c, err
}

func mergePorts(user network.PortSet, img map[string]struct{}) (network.PortSet, error) {
	out := maps.Clone(user)
	for s := range img {
		p, err := network.ParsePort(s)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "the image exposes %q: %w", s, err)
		}
		if out == nil {
			out = network.PortSet{}
		}
		out[p] = struct{}{}
	}
	return out, nil
}

// mergeEnv puts the image's variables behind the user's own, except where the
// user's set or unset them.
func mergeEnv(user, img []string) []string {
	seen := map[string]bool{}
	for _, e := range user {
		k, _, _ := strings.Cut(e, "=")
		seen[k] = true
	}
	out := slices.Clone(user)
	for _, e := range img {
		if k, _, ok := strings.Cut(e, "="); ok && k != "" && !seen[k] && !strings.ContainsRune(e, 0) {
			seen[k] = true
			out = append(out, e)
		}
	}
	return out
}

// Environment puts a container's variables together: base first, each replaced
// by a later entry of the same name; an entry without "=" unsets.
func Environment(base, env []string) []string {
	out := slices.Clone(base)
	for _, e := range env {
		k, _, set := strings.Cut(e, "=")
		i := slices.IndexFunc(out, func(o string) bool { return strings.HasPrefix(o, k+"=") })
		switch {
		case set && i >= 0:
			out[i] = e
		case set:
			out = append(out, e)
		case i >= 0:
			out = slices.Delete(out, i, i+1)
		}
	}
	return out
}

// Command returns what a container executes.
func Command(c *api.Config) []string { return slices.Concat(c.Entrypoint, c.Cmd) }

// CheckEnv refuses variables that no process can have.
func CheckEnv(env []string) error {
	for _, e := range env {
		k, _, _ := strings.Cut(e, "=")
		if k == "" {
			return errdefs.New(errdefs.Invalid, "invalid environment variable: %s", e)
		}
		if strings.ContainsRune(e, 0) {
			return errdefs.New(errdefs.Invalid, "invalid environment variable %q: it holds a NUL byte", k)
		}
	}
	return nil
}
