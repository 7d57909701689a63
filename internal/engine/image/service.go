// Package image is the engine's service for images, in Docker's terms: pull,
// load, list, inspect, tag, remove, prune. What an image is and what belongs
// to it is internal/imagestore's business; this package has Docker's rules on
// top: which removal is a conflict, what a listing shows, what messages say.
//
// One image is built in: lade/toolbox, a shell and the usual commands. It needs
// no registry: it is made of the program lade-toolbox the first time that
// somebody asks for it.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/transfer"
)

// Config is what a Service works with.
type Config struct {
	Images   *imagestore.Store
	Transfer *transfer.Transfer
	// Platform is the engine's own.
	Platform ocispec.Platform
	// Toolbox is the path of the program lade-toolbox. Empty: there is no
	// built-in image.
	Toolbox string
	// Short returns what a name without a registry may mean; none: what it
	// means in Docker. Nil: always that.
	Short func(name string) ([]reference.Reference, error)
	// Users returns the ids of the containers that were made from the image
	// with the id, which begins with "sha256:". Nil: there are none.
	Users func(imageID string) []string
	// Running reports whether a container runs. Nil: none does.
	Running func(containerID string) bool
	// Log takes what nobody asked for; nil means slog.Default().
	Log *slog.Logger
}

// Service answers for the images. Its methods may be called concurrently.
type Service struct {
	c       Config
	builtin builtin

	// removing holds removals apart: each looks first and acts then.
	removing sync.Mutex
}

// New returns a service.
func New(c Config) *Service {
	if c.Short == nil {
		c.Short = func(string) ([]reference.Reference, error) { return nil, nil }
	}
	if c.Users == nil {
		c.Users = func(string) []string { return nil }
	}
	if c.Running == nil {
		c.Running = func(string) bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Service{c: c, builtin: builtin{program: c.Toolbox}}
}

// PullOptions says what to pull, and with whose credentials.
type PullOptions struct {
	Ref      string               // name, name:tag or name@digest
	Platform string               // os/architecture[/variant]; empty: the engine's own
	Auth     *registry.AuthConfig // nil: nobody's
}

// Pull fetches an image from its registry. progress may be nil.
func (s *Service) Pull(ctx context.Context, o PullOptions, progress func(transfer.Progress)) error {
	ref, err := reference.Parse(o.Ref)
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(transfer.Progress) {}
	}
	t := transfer.PullOptions{Ref: ref}
	if o.Platform != "" {
		p, err := platform.Parse(o.Platform, s.c.Platform)
		if err != nil {
			return err
		}
		t.Platform = &p
	}
	if s.builtin.is(ref) {
		if err := s.ensureBuiltin(ctx); err != nil {
			return err
		}
		progress(transfer.Progress{Action: "Status: " + ref.Familiar() + " is built into Lade"})
		return nil
	}
	meant, err := s.meant(o.Ref)
	if err != nil {
		return err
	}
	if len(meant) == 0 {
		meant = []reference.Reference{ref}
	}
	var failed []error
	for _, t.Ref = range meant {
		// Credentials came for the name as it was written.
		t.Credentials, err = auth.FromDocker(o.Auth, ref.Domain)
		if err != nil {
			return err
		}
		if t.Ref.Domain != ref.Domain {
			t.Credentials = auth.Credentials{}
		}
		if _, err = s.c.Transfer.Pull(ctx, t, progress); err == nil {
			return nil
		}
		failed = append(failed, err)
		if !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.Unauthorized) {
			break // what a registry that does not answer has, nobody knows
		}
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return errdefs.With(errdefs.ClassOf(err), errors.Join(failed...))
}

// meant returns what a short name may mean, by the administrator's word: what
// is here first, since it was pulled under that name before.
func (s *Service) meant(name string) ([]reference.Reference, error) {
	all, err := s.c.Short(name)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Tag == "" && all[i].Digest == "" {
			all[i].Tag = reference.DefaultTag
		}
	}
	slices.SortStableFunc(all, func(a, b reference.Reference) int {
		_, errA := s.c.Images.Resolve(a.String())
		_, errB := s.c.Images.Resolve(b.String())
		switch {
		case errA == nil && errB != nil:
			return -1
		case errA != nil && errB == nil:
			return 1
		}
		return 0
	})
	return all, nil
}

// Load stores the images of an archive. progress may be nil.
func (s *Service) Load(ctx context.Context, archive io.Reader, progress func(transfer.Progress)) error {
	_, err := s.c.Transfer.Load(ctx, archive, progress)
	return err
}

// Tag gives an image one more name.
func (s *Service) Tag(ctx context.Context, source, target string) error {
	ref, err := reference.Parse(target)
	if err != nil {
		return err
	}
	e, err := s.resolve(ctx, source)
	if err != nil {
		return err
	}
	return s.c.Images.Tag(e.ID, ref)
}

// Resolve finds a local image: by name, name@digest, id, or the beginning of
// an id. The built-in image is made if it is asked for.
func (s *Service) Resolve(ctx context.Context, ref string) (image.Image, error) {
	e, err := s.resolve(ctx, ref)
	return e.Image, err
}

// local finds an image by its name, or by what a short name may mean.
func (s *Service) local(ref string) (imagestore.Entry, error) {
	e, err := s.c.Images.Resolve(ref)
	if !errdefs.Is(err, errdefs.NotFound) {
		return e, err
	}
	meant, shortErr := s.meant(ref)
	if shortErr != nil || len(meant) == 0 {
		return e, err
	}
	if found, err := s.c.Images.Resolve(meant[0].String()); err == nil {
		return found, nil
	}
	return e, err
}

func (s *Service) resolve(ctx context.Context, ref string) (imagestore.Entry, error) {
	r, err := reference.Parse(ref)
	if err != nil || !s.builtin.is(r) {
		return s.local(ref)
	}
	if s.builtin.fresh() {
		e, err := s.c.Images.Resolve(ref)
		if !errdefs.Is(err, errdefs.NotFound) {
			return e, err
		}
	}
	if err := s.ensureBuiltin(ctx); err != nil {
		return imagestore.Entry{}, err
	}
	return s.c.Images.Resolve(ref)
}

// Pin keeps an image's layers for a container, also when the image is removed.
// Pins live as long as the engine: it pins again what its records say when it
// starts, and calls Sweep after that.
func (s *Service) Pin(_ context.Context, containerID string, img image.Image) error {
	return s.c.Images.Pin(containerID, img.Config.RootFS.DiffIDs)
}

// Unpin ends a container's pin.
func (s *Service) Unpin(_ context.Context, containerID string) error {
	return s.c.Images.Unpin(containerID)
}

// Sweep removes what a killed engine left: blobs and layers that belong to no
// image and no container, and downloads that nobody went on with. All
// containers must have been pinned.
func (s *Service) Sweep(_ context.Context, before time.Time) error {
	swept, err := s.c.Images.Sweep(before)
	if err != nil {
		return fmt.Errorf("sweep images: %w", err)
	}
	if swept != (imagestore.Swept{}) {
		s.c.Log.Info("removed what belonged to no image", "blobs", swept.Blobs, "layers", swept.Layers, "bytes", swept.Bytes)
	}
	return nil
}
