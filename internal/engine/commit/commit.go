// Package commit makes images of containers: what a container has written
// becomes a layer on top of its image's.
package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/change"
	"lade/internal/imagestore"
	"lade/internal/linux/mount"
	"lade/internal/reference"
	"lade/internal/snapshot"
	"lade/internal/transfer"
)

// Source is a container to make an image of.
type Source struct {
	ID          string
	Image       digest.Digest
	Config      *api.Config
	IDs         []mount.IDMap // its user namespace; nil without
	Running     bool
	Mountpoints []string // files that the runtime makes, to mount over
}

// Containers finds containers, and holds them still.
type Containers interface {
	Source(ctx context.Context, ref string) (Source, error)
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
}

// Config is what a Service works with.
type Config struct {
	Containers Containers
	Images     *imagestore.Store
	Content    *content.Store
	Snapshots  *snapshot.Store
	Transfer   *transfer.Transfer
}

// Service commits containers. Its methods may be called concurrently.
type Service struct{ c Config }

// New returns a service.
func New(c Config) *Service { return &Service{c} }

// Options says what the image is to be.
type Options struct {
	Name    string // repository[:tag]; empty: none
	Author  string
	Comment string
	Pause   bool     // hold the container still meanwhile
	Changes []string // instructions of a Dockerfile, one each
	// Config, if set, has what is to differ from the container's configuration.
	Config *api.Config
}

// Commit makes an image of a container and returns its id.
func (s *Service) Commit(ctx context.Context, ref string, o Options) (digest.Digest, error) {
	src, err := s.c.Containers.Source(ctx, ref)
	if err != nil {
		return "", err
	}
	x := transfer.Extension{}
	if o.Name != "" {
		name, err := reference.Parse(o.Name)
		if err != nil {
			return "", err
		}
		if name.Digest != "" {
			return "", errdefs.New(errdefs.Invalid, "commit as %s: a name cannot have a digest", o.Name)
		}
		x.Names = []reference.Reference{name}
	}
	base, err := s.c.Images.Resolve(string(src.Image))
	if errdefs.Is(err, errdefs.NotFound) {
		err = errdefs.Hint(errdefs.New(errdefs.NotFound, "image %s of container %s is gone", image.ShortID(src.Image), ref), "pull it again, and then commit")
	}
	if err != nil {
		return "", err
	}
	x.Base = base.Record
	made, err := s.configuration(src, o)
	if err != nil {
		return "", err
	}
	x.Config = func(top digest.Digest) ([]byte, error) { return made.on(top, o.Comment) }
	x.Layer = func(w io.Writer) (bool, error) { return s.layer(ctx, src, w, o.Pause) }
	res, err := s.c.Transfer.Extend(ctx, x)
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", ref, err)
	}
	return res.ID, nil
}

// unpauseTimeout bounds how long a container that was held still may take to
// go on, whatever became of who asked for the image.
const unpauseTimeout = 30 * time.Second

// layer writes what the container has written.
func (s *Service) layer(ctx context.Context, src Source, w io.Writer, pause bool) (bool, error) {
	if pause && src.Running {
		// One that ended or was paused meanwhile is still as it is.
		if err := s.c.Containers.Pause(ctx, src.ID); err == nil {
			defer func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unpauseTimeout)
				defer cancel()
				_ = s.c.Containers.Unpause(ctx, src.ID) // a container that is gone needs none
			}()
		} else if !errdefs.Is(err, errdefs.Conflict) {
			return false, err
		}
	}
	return s.c.Snapshots.Changes(ctx, src.ID, w, snapshot.ChangesOptions{UIDMap: src.IDs, GIDMap: src.IDs, Skip: src.Mountpoints})
}

// configuration is the new image's, but for the layer on top. Fields of the
// base's that nobody here knows stay as they are.
type configuration struct {
	raw     map[string]json.RawMessage
	image   dockerspec.DockerOCIImage
	command []string // of the container
}

func (s *Service) configuration(src Source, o Options) (*configuration, error) {
	raw, err := s.c.Content.ReadAll(src.Image, image.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.ShortID(src.Image), err)
	}
	c := &configuration{command: src.Config.Cmd}
	if err := errors.Join(json.Unmarshal(raw, &c.raw), json.Unmarshal(raw, &c.image)); err != nil {
		return nil, errdefs.New(errdefs.DataLoss, "configuration of image %s: %w", image.ShortID(src.Image), err)
	}
	c.image.Config = imageConfig(overlay(*src.Config, o.Config))
	if err := change.Apply(&c.image.Config, o.Changes); err != nil {
		return nil, err
	}
	c.image.Author = o.Author
	return c, nil
}

// imageConfig is what of a container's configuration an image has: a copy, which
// may be changed.
func imageConfig(c api.Config) dockerspec.DockerOCIImageConfig {
	var i dockerspec.DockerOCIImageConfig
	i.User, i.Env, i.Entrypoint, i.Cmd = c.User, slices.Clone(c.Env), c.Entrypoint, c.Cmd
	i.Volumes, i.WorkingDir, i.Labels, i.StopSignal = maps.Clone(c.Volumes), c.WorkingDir, maps.Clone(c.Labels), c.StopSignal
	i.ArgsEscaped = c.ArgsEscaped //nolint:staticcheck // deprecated, and still to be kept
	i.Healthcheck, i.OnBuild, i.Shell = c.Healthcheck, slices.Clone(c.OnBuild), c.Shell
	for p := range c.ExposedPorts {
		if i.ExposedPorts == nil {
			i.ExposedPorts = map[string]struct{}{}
		}
		i.ExposedPorts[p.String()] = struct{}{}
	}
	return i
}

// overlay puts what is set in the second configuration over the first.
func overlay(c api.Config, over *api.Config) api.Config {
	if over == nil {
		return c
	}
	text := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	text(&c.User, over.User)
	text(&c.WorkingDir, over.WorkingDir)
	text(&c.StopSignal, over.StopSignal)
	words := func(to *[]string, v []string) {
		if len(v) > 0 {
			*to = v
		}
	}
	words(&c.Env, over.Env)
	words(&c.Entrypoint, over.Entrypoint)
	words(&c.Cmd, over.Cmd)
	words(&c.OnBuild, over.OnBuild)
	words(&c.Shell, over.Shell)
	if len(over.Labels) > 0 {
		c.Labels = over.Labels
	}
	if len(over.Volumes) > 0 {
		c.Volumes = over.Volumes
	}
	if len(over.ExposedPorts) > 0 {
		c.ExposedPorts = over.ExposedPorts
	}
	if over.Healthcheck != nil {
		c.Healthcheck = over.Healthcheck
	}
	return c
}

// on returns the configuration with the layer on top, or without one.
func (c *configuration) on(top digest.Digest, comment string) ([]byte, error) {
	now := time.Now().UTC()
	c.image.Created = &now
	c.image.History = append(c.image.History, ocispec.History{
		Created: &now, CreatedBy: strings.Join(c.command, " "), Author: c.image.Author, Comment: comment, EmptyLayer: top == "",
	})
	if top != "" {
		c.image.RootFS.DiffIDs = append(c.image.RootFS.DiffIDs, top)
	}
	for key, v := range map[string]any{
		"created": c.image.Created, "author": c.image.Author, "config": c.image.Config, "history": c.image.History, "rootfs": c.image.RootFS,
	} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		c.raw[key] = b
	}
	// Docker's old ones, of another container.
	delete(c.raw, "container")
	delete(c.raw, "container_config")
	return json.Marshal(c.raw)
}
