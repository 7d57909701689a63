package dockerapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/build"
	containerapi "github.com/moby/moby/api/types/container"
	imageapi "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	volumeapi "github.com/moby/moby/api/types/volume"

	"lade/api"
	"lade/internal/engine/disk"
	"lade/internal/errdefs"
)

// Disk tells what lies on disk. Its methods are those of disk.Service.
type Disk interface {
	Usage(ctx context.Context) (disk.Usage, error)
	Ledger(ctx context.Context) (api.Ledger, error)
}

// Prune removes containers that nobody needs. Its methods are those of
// prune.Service.
type Prune interface {
	Containers(ctx context.Context, filters map[string][]string) (containerapi.PruneReport, error)
}

// Check reads all that is on disk, and mends it. Its method is that of
// check.Service.
type Check interface {
	Check(ctx context.Context, repair bool) (api.CheckReport, error)
}

func (h *Handler) diskRoutes() []route {
	var rs []route
	if h.s.Check != nil {
		rs = append(rs, route{http.MethodPost, api.CheckPath, h.check})
	}
	if h.s.Disk != nil {
		rs = append(rs, route{http.MethodGet, "/system/df", h.diskUsage}, route{http.MethodGet, api.LedgerPath, h.ledger})
	}
	if h.s.Prune != nil {
		rs = append(rs, route{http.MethodPost, "/containers/prune", h.pruneContainers}, route{http.MethodPost, "/build/prune", nothingBuilt})
	}
	return rs
}

func (h *Handler) check(c *call) error {
	return c.answer(h.s.Check.Check(c.Context(), c.boolean("repair")))
}

func (h *Handler) pruneContainers(c *call) error { return filtered(c, h.s.Prune.Containers) }

// nothingBuilt tells system prune that there is no build cache.
func nothingBuilt(c *call) error { return c.answer(build.CachePruneReport{}, nil) }

func (h *Handler) ledger(c *call) error {
	return c.answer(h.s.Disk.Ledger(c.Context()))
}

// oldUsage is the answer before version 1.53 of the API.
type oldUsage struct {
	LayersSize int64
	Images     []imageapi.Summary
	Containers []containerapi.Summary
	Volumes    []volumeapi.Volume
	BuildCache []build.CacheRecord
}

// diskUsage answers in the form of the client's version: lists up to 1.51, sums
// from 1.53 on, and in between both, unless it is asked for a list by its new
// name.
func (h *Handler) diskUsage(c *call) error {
	kinds := c.query["type"]
	wants := func(o system.DiskUsageObject) bool { return len(kinds) == 0 || slices.Contains(kinds, string(o)) }
	for _, k := range kinds {
		switch system.DiskUsageObject(k) {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
		default:
			return errdefs.New(errdefs.Invalid, "unknown object type: %.50s", k)
		}
	}
	u, err := h.s.Disk.Usage(c.Context())
	if err != nil {
		return err
	}
	var answer struct {
		*oldUsage
		system.DiskUsage
	}
	verbose := c.boolean("verbose")
	if c.version.before(52) || c.version.before(53) && !c.query.Has("verbose") {
		answer.oldUsage = old(u, wants)
	}
	if !c.version.before(52) {
		answer.DiskUsage = sums(u, wants, verbose)
	}
	return c.reply(answer)
}

func old(u disk.Usage, wants func(system.DiskUsageObject) bool) *oldUsage {
	o := &oldUsage{}
	if wants(system.ImageObject) {
		o.LayersSize, o.Images = u.Images.TotalSize, u.Images.Items
	}
	if wants(system.ContainerObject) {
		o.Containers = u.Containers.Items
	}
	if wants(system.VolumeObject) {
		o.Volumes = u.Volumes.Items
	}
	if wants(system.BuildCacheObject) {
		o.BuildCache = []build.CacheRecord{}
	}
	return o
}

func sums(u disk.Usage, wants func(system.DiskUsageObject) bool, verbose bool) system.DiskUsage {
	if !verbose {
		u.Images.Items, u.Containers.Items, u.Volumes.Items = nil, nil, nil
	}
	var s system.DiskUsage
	if wants(system.ImageObject) {
		s.ImageUsage = &u.Images
	}
	if wants(system.ContainerObject) {
		s.ContainerUsage = &u.Containers
	}
	if wants(system.VolumeObject) {
		s.VolumeUsage = &u.Volumes
	}
	if wants(system.BuildCacheObject) {
		s.BuildCacheUsage = &build.DiskUsage{}
	}
	return s
}
