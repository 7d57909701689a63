package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
	"lade/internal/registry/auth"
)

// Source reads a repository from the first of its places that has what is
// asked for: mirrors, and the registry itself last. What comes from a mirror
// is checked as all else is; but what a tag leads to, a mirror decides.
type Source struct {
	places []*Repository

	mu   sync.Mutex
	best int // guarded by mu: the place that answered last
}

// Source returns the repository of ref to read from.
func (c *Client) Source(ref reference.Reference, cred auth.Credentials) (*Source, error) {
	places, err := c.places(ref, false)
	if err != nil {
		return nil, err
	}
	s := &Source{}
	for _, p := range places {
		r, err := c.at(p, ref, cred, "pull")
		if err != nil {
			return nil, err
		}
		s.places = append(s.places, r)
	}
	return s, nil
}

// Registry returns the registry itself, without its mirrors.
func (s *Source) Registry() *Repository { return s.places[len(s.places)-1] }

// Manifest is Repository.Manifest.
func (s *Source) Manifest(ctx context.Context, object string) (raw []byte, desc ocispec.Descriptor, err error) {
	err = s.try(ctx, func(r *Repository) (err error) {
		raw, desc, err = r.Manifest(ctx, object)
		return err
	})
	return raw, desc, err
}

// Blob is Repository.Blob.
func (s *Source) Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (body io.ReadCloser, err error) {
	err = s.try(ctx, func(r *Repository) (err error) {
		body, err = r.Blob(ctx, desc, offset)
		return err
	})
	return body, err
}

// try asks the places in turn, beginning with the one that answered last. The
// error is that of the registry itself, and says which mirrors failed before.
func (s *Source) try(ctx context.Context, ask func(*Repository) error) error {
	s.mu.Lock()
	best := s.best
	s.mu.Unlock()
	var err error
	var failed []error
	for _, i := range append([]int{best}, others(len(s.places), best)...) {
		if err = ask(s.places[i]); err == nil {
			s.mu.Lock()
			s.best = i
			s.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil || i == len(s.places)-1 {
			break
		}
		failed = append(failed, fmt.Errorf("mirror %s: %w", s.places[i].base.Host, err))
	}
	return mirrorsToo(err, failed)
}

func others(n, but int) []int {
	var all []int
	for i := range n {
		if i != but {
			all = append(all, i)
		}
	}
	return all
}

func mirrorsToo(err error, failed []error) error {
	if len(failed) == 0 {
		return err
	}
	why := errors.Join(failed...)
	if hint := errdefs.HintOf(err); hint != "" {
		return errdefs.Hint(err, "%s; before that, %v", hint, why)
	}
	return errdefs.Hint(err, "before that, %v", why)
}
