// Package disk is the engine's service for what lies on disk: how much it is
// and whose, as Docker's `system df` tells it and as a ledger in which every
// byte below the data root has an owner.
//
// Both come from one walk over the data root (internal/ledger). So the sizes
// are of allocated blocks, what the file system would get back; Docker's own
// are sums of lengths that count the packed and the unpacked form of a layer
// differently in different versions.
package disk

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	containerapi "github.com/moby/moby/api/types/container"
	imageapi "github.com/moby/moby/api/types/image"
	volumeapi "github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"

	"lade/api"
	"lade/internal/atomicfile"
	"lade/internal/ident"
	"lade/internal/ledger"
)

// Image is an image, and what on disk it needs.
type Image struct {
	Summary imageapi.Summary
	Blobs   []digest.Digest
	Layers  []digest.Digest // by DiffID
}

// Images tells which images there are and what is theirs.
type Images interface {
	All(ctx context.Context) ([]Image, error)
	// Sources answer for blobs and layers.
	Sources() ([]ledger.Source, error)
}

// Volumes tells which volumes there are.
type Volumes interface {
	// All returns the volumes, without their sizes; References is how many
	// containers use one.
	All(ctx context.Context) ([]volumeapi.Volume, error)
	// Sources answer for the volumes' files: the kind is ledger.Volume, the ID
	// the volume's name.
	Sources() ([]ledger.Source, error)
}

// Config is what a Service works with.
type Config struct {
	Root   string // the data root
	Images Images
	// Containers returns all containers.
	Containers func(context.Context) ([]containerapi.Summary, error)
	// Volumes is nil where there are none.
	Volumes Volumes
}

// Service tells what lies on disk. Its methods may be called concurrently.
type Service struct{ cfg Config }

// New returns a service.
func New(cfg Config) *Service { return &Service{cfg} }

// The parts of a container's directory that are not merely the engine's files
// for it.
func partOfContainer(name string) ledger.Kind {
	switch name {
	case "upper", "upper.new", "work", "upper.img", "upper.img.new":
		return ledger.Writable
	case "log":
		return ledger.Log
	}
	return ledger.File
}

// records are the engine's own files in the data root.
func records(name string) ledger.Owner {
	switch name {
	case "lade.db", "engine-id", "events":
		return ledger.Owner{Kind: ledger.Record}
	case "lost+found": // the file system's own, where the data root is one
		return ledger.Owner{Kind: ledger.Directory}
	}
	if strings.HasPrefix(name, atomicfile.TempPrefix) {
		return ledger.Owner{Kind: ledger.Temporary}
	}
	return ledger.Owner{}
}

// state is the ledger with what is needed to read it.
type state struct {
	report     ledger.Report
	images     []Image
	containers []containerapi.Summary
	volumes    []volumeapi.Volume
}

// look walks over the data root. Who owns what is asked before: what comes
// into being meanwhile has an owner that is not known yet, and counts as
// temporary; what goes away is not there any more.
func (s *Service) look(ctx context.Context) (state, error) {
	var st state
	var err error
	if st.images, err = s.cfg.Images.All(ctx); err != nil {
		return st, err
	}
	if st.containers, err = s.cfg.Containers(ctx); err != nil {
		return st, err
	}
	sources, err := s.cfg.Images.Sources()
	if err != nil {
		return st, err
	}
	if s.cfg.Volumes != nil {
		if st.volumes, err = s.cfg.Volumes.All(ctx); err != nil {
			return st, err
		}
		more, err := s.cfg.Volumes.Sources()
		if err != nil {
			return st, err
		}
		sources = append(sources, more...)
	}
	known := map[string]bool{}
	for _, c := range st.containers {
		known[c.ID] = true
	}
	sources = append(sources,
		ledger.Source{Dir: s.cfg.Root, Owner: records},
		ledger.Source{Dir: filepath.Join(s.cfg.Root, "containers"), Loose: true, Part: partOfContainer, Owner: func(name string) ledger.Owner {
			if !ident.IsID(name) || !known[name] {
				return ledger.Owner{}
			}
			return ledger.Owner{Kind: ledger.File, ID: name}
		}})
	st.report, err = ledger.Walk(s.cfg.Root, sources, time.Now())
	return st, err
}

// Ledger returns whose every byte is.
func (s *Service) Ledger(ctx context.Context) (api.Ledger, error) {
	st, err := s.look(ctx)
	if err != nil {
		return api.Ledger{}, err
	}
	r := api.Ledger{Root: st.report.Root, Files: st.report.Files, Bytes: st.report.Bytes, Lines: []api.LedgerLine{}}
	for _, l := range st.report.Lines {
		r.Lines = append(r.Lines, api.LedgerLine{Kind: string(l.Kind), Owner: l.ID, Path: l.Path, Files: l.Files, Bytes: l.Bytes})
	}
	return r, nil
}

// Usage is what Docker's `system df` tells.
type Usage struct {
	Images     imageapi.DiskUsage
	Containers containerapi.DiskUsage
	Volumes    volumeapi.DiskUsage
}

// Usage returns how much disk images, containers and volumes take.
func (s *Service) Usage(ctx context.Context) (Usage, error) {
	st, err := s.look(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Images: st.imageUsage()}
	u.Containers = st.containerUsage(u.Images.Items)
	u.Volumes = st.volumeUsage()
	return u, nil
}

// imageUsage shares out blobs and layers among the images that need them.
func (st state) imageUsage() imageapi.DiskUsage {
	sizes := map[string]int64{} // of what an image needs, by form and digest
	for _, l := range st.report.Lines {
		if l.Kind == ledger.Blob {
			sizes["blob "+l.ID] += l.Bytes
		}
		if l.Kind == ledger.Layer || l.Kind == ledger.Supplement {
			sizes["layer "+l.ID] += l.Bytes
		}
	}
	users := map[string]int{}
	used := map[string]bool{} // by an image that has containers
	parts := make([][]string, len(st.images))
	for i, img := range st.images {
		parts[i] = img.parts()
		for _, p := range parts[i] {
			users[p]++
			used[p] = used[p] || img.Summary.Containers > 0
		}
	}
	u := imageapi.DiskUsage{TotalCount: int64(len(st.images)), Items: []imageapi.Summary{}}
	for i, img := range st.images {
		sum := img.Summary
		sum.Size, sum.SharedSize = 0, 0
		for _, p := range parts[i] {
			sum.Size += sizes[p]
			if users[p] > 1 {
				sum.SharedSize += sizes[p]
			}
		}
		if sum.Containers > 0 {
			u.ActiveCount++
		}
		u.Items = append(u.Items, sum)
	}
	for p, n := range sizes {
		u.TotalSize += n
		if !used[p] {
			u.Reclaimable += n
		}
	}
	return u
}

// parts returns the blobs and layers of an image, each once.
func (img Image) parts() []string {
	var all []string
	for _, d := range img.Blobs {
		all = append(all, "blob "+string(d))
	}
	for _, d := range img.Layers {
		all = append(all, "layer "+string(d))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (st state) containerUsage(images []imageapi.Summary) containerapi.DiskUsage {
	written := st.report.Of(ledger.Writable)
	sizes := map[string]int64{}
	for _, img := range images {
		sizes[img.ID] = img.Size
	}
	u := containerapi.DiskUsage{TotalCount: int64(len(st.containers)), Items: []containerapi.Summary{}}
	for _, c := range st.containers {
		c.SizeRw = written[c.ID]
		c.SizeRootFs = c.SizeRw + sizes[c.ImageID]
		u.TotalSize += c.SizeRw
		switch c.State {
		case containerapi.StateRunning, containerapi.StatePaused, containerapi.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
		u.Items = append(u.Items, c)
	}
	return u
}

func (st state) volumeUsage() volumeapi.DiskUsage {
	sizes := st.report.Of(ledger.Volume)
	u := volumeapi.DiskUsage{TotalCount: int64(len(st.volumes)), Items: []volumeapi.Volume{}}
	for _, v := range st.volumes {
		usage := volumeapi.UsageData{Size: sizes[v.Name]}
		if v.UsageData != nil {
			usage.RefCount = v.UsageData.RefCount
		}
		v.UsageData = &usage
		u.TotalSize += usage.Size
		if usage.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += usage.Size
		}
		u.Items = append(u.Items, v)
	}
	slices.SortFunc(u.Items, func(a, b volumeapi.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return u
}
