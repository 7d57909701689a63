package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/defaults"
	"lade/internal/engine/container/depend"
	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/ocispec"
	"lade/internal/engine/container/place"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
)

// Create checks a request and records a container. It does not start it. A
// missing image is an error of class NotFound.
func (s *Service) Create(ctx context.Context, name string, req api.CreateRequest, platform string) (api.CreateResponse, error) {
	if req.Config == nil {
		return api.CreateResponse{}, errdefs.New(errdefs.Invalid, "config cannot be empty in order to create a container")
	}
	img, err := s.cfg.Images.Resolve(ctx, req.Image)
	if err != nil {
		return api.CreateResponse{}, err
	}
	if err := defaults.CheckPlatform(platform, img); err != nil {
		return api.CreateResponse{}, err
	}
	if req, err = s.withHealth(ctx, req, img); err != nil {
		return api.CreateResponse{}, err
	}
	d, warnings, err := s.define(req, img)
	if err != nil {
		return api.CreateResponse{}, err
	}
	d.Name, err = s.table.Reserve(name, d.ID)
	if err != nil {
		return api.CreateResponse{}, err
	}
	if err = depend.Check(others{s}, d); err == nil {
		err = s.record(ctx, &d, img)
	}
	if err != nil {
		s.table.Release(d.Name, d.ID)
		return api.CreateResponse{}, err
	}
	c := newContainer(d, record.State{Status: api.StateCreated})
	s.table.Put(d.ID, "", c)
	return api.CreateResponse{ID: d.ID, Warnings: warnings}, nil
}

func newContainer(d record.Definition, st record.State) *container {
	return &container{id: d.ID, created: d.Created, op: newOperation(), def: d, state: st}
}

// record takes what a new container needs, and writes its definition last: the
// one durable act of a create. What was taken before it is rebuilt from the
// definitions at each start, so a crash leaks nothing.
func (s *Service) record(ctx context.Context, d *record.Definition, img image.Image) (err error) {
	var undo []func(context.Context) error
	defer func() {
		if err == nil {
			return
		}
		for _, f := range slices.Backward(undo) {
			err = errors.Join(err, f(context.WithoutCancel(ctx)))
		}
	}()
	if err := s.chooseUserNS(d); err != nil {
		return err
	}
	undo = append(undo, func(context.Context) error { s.ids.Free(d.IDBase); return nil })
	if err := launch.ResolveImages(ctx, s.cfg.Images, d.Mounts); err != nil {
		return err
	}
	img.Config.RootFS.DiffIDs = d.Layers()
	if err := s.cfg.Images.Pin(ctx, d.ID, img); err != nil {
		return fmt.Errorf("keep image %s: %w", d.Image.Asked, err)
	}
	undo = append(undo, func(ctx context.Context) error { return s.cfg.Images.Unpin(ctx, d.ID) })
	if err := s.volumes.Take(ctx, d); err != nil {
		return err
	}
	undo = append(undo, func(ctx context.Context) error { return s.volumes.Release(ctx, *d, true) })
	if err := s.records.PutDefinition(*d, record.Event(*d, events.ActionCreate)); err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	return nil
}

// define turns a request into a definition, or says what is wrong with it.
func (s *Service) define(req api.CreateRequest, img image.Image) (record.Definition, []string, error) {
	cfg, err := request.Merge(req.Config, img.Config.Config)
	if err != nil {
		return record.Definition{}, nil, err
	}
	h := &api.HostConfig{}
	if req.HostConfig != nil {
		h = new(*req.HostConfig)
	}
	names := make([]string, 0, len(s.cfg.Runtimes))
	for _, r := range s.cfg.Runtimes {
		names = append(names, r.Name)
	}
	warnings, err := request.Check(cfg, h, request.Host{CPUs: s.cfg.Host.CPUs, Runtimes: names, CheckSize: s.cfg.Snapshots.CheckSize})
	if err != nil {
		return record.Definition{}, nil, err
	}
	if err := s.resolveModes(cfg, h); err != nil {
		return record.Definition{}, nil, err
	}
	inherited, err := s.volumes.Inherited(h.VolumesFrom)
	if err != nil {
		return record.Definition{}, nil, err
	}
	mounts, err := request.Mounts(cfg, h, inherited)
	if err != nil {
		return record.Definition{}, nil, err
	}
	if err := launch.CheckSources(mounts); err != nil {
		return record.Definition{}, nil, err
	}
	if err := errors.Join(ocispec.Check(h), s.launcher.CheckDevices(h)); err != nil {
		return record.Definition{}, nil, err
	}
	d := record.Definition{
		ID: ident.New(), Created: time.Now().UTC(), Config: cfg, Host: h, Networks: req.NetworkingConfig, Mounts: mounts,
		Ephemeral: h.AutoRemove,
		Image:     record.ImageRef{Asked: req.Image, ID: img.ID, Manifest: img.Manifest, DiffIDs: img.Config.RootFS.DiffIDs},
		Platform:  defaults.Platform(img),
	}
	defaults.Fill(&d, s.cfg.Host.Hostname, s.cfg.Runtimes[0].Name)
	if err := place.Join(s.cfg.Networks, &d); err != nil {
		return record.Definition{}, nil, err
	}
	slices.Sort(warnings)
	if s.cfg.Network == nil && launch.WantsBridge(h) {
		warnings = append(warnings, fmt.Sprintf("Network %s is not there yet: the container has only a loopback interface", h.NetworkMode))
	}
	return d, warnings, nil
}

// resolveModes turns the names in container:NAME into ids: a name may be given
// to another container later.
func (s *Service) resolveModes(cfg *api.Config, h *api.HostConfig) error {
	resolve := func(ref string) (string, error) {
		c, err := s.lookup(ref)
		if err != nil {
			return "", err
		}
		return "container:" + c.id, nil
	}
	if ref := h.NetworkMode.ConnectedContainer(); ref != "" {
		m, err := resolve(ref)
		if err != nil {
			return err
		}
		h.NetworkMode = api.NetworkMode(m)
		if c, err := s.lookup(h.NetworkMode.ConnectedContainer()); err == nil { // who shares a network shares its name
			other, _ := c.view()
			cfg.Hostname, cfg.Domainname = other.Config.Hostname, other.Config.Domainname
		}
	}
	if ref := h.PidMode.Container(); ref != "" {
		m, err := resolve(ref)
		if err != nil {
			return err
		}
		h.PidMode = api.PidMode(m)
	}
	if ref := h.IpcMode.Container(); ref != "" {
		m, err := resolve(ref)
		if err != nil {
			return err
		}
		h.IpcMode = api.IpcMode(m)
		if c, err := s.lookup(h.IpcMode.Container()); err == nil {
			other, _ := c.view()
			return request.CheckDonor(other.Name, other.Host.IpcMode)
		}
	}
	return nil
}
