package disk

import (
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/volume"

	"lade/internal/cli/format"
)

// shortID is how ids are shown in tables.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}

// imageRow is an image under one of its names.
type imageRow struct {
	s         image.Summary
	repo, tag string
}

func (imageRow) IsRow() {}

func (r imageRow) Repository() string { return r.repo }

func (r imageRow) Tag() string { return r.tag }

func (r imageRow) ID() string { return shortID(r.s.ID) }

func (r imageRow) CreatedSince() string { return format.Ago(time.Unix(r.s.Created, 0), time.Now()) }

func (r imageRow) CreatedAt() string { return time.Unix(r.s.Created, 0).String() }

func (r imageRow) Size() string { return format.Size(r.s.Size) }

func (r imageRow) SharedSize() string { return format.FineSize(r.s.SharedSize) }

func (r imageRow) UniqueSize() string { return format.FineSize(r.s.Size - r.s.SharedSize) }

func (r imageRow) Containers() string { return strconv.FormatInt(r.s.Containers, 10) }

// containerRow is a container.
type containerRow struct{ s container.Summary }

func (containerRow) IsRow() {}

func (r containerRow) ID() string { return shortID(r.s.ID) }

func (r containerRow) Image() string { return r.s.Image }

func (r containerRow) Command() string { return strconv.Quote(format.Ellipsis(r.s.Command, 20)) }

func (r containerRow) LocalVolumes() string {
	n := 0
	for _, m := range r.s.Mounts {
		if m.Type == "volume" {
			n++
		}
	}
	return strconv.Itoa(n)
}

func (r containerRow) Size() string { return format.Size(r.s.SizeRw) }

func (r containerRow) RunningFor() string { return format.Ago(time.Unix(r.s.Created, 0), time.Now()) }

func (r containerRow) CreatedAt() string { return time.Unix(r.s.Created, 0).String() }

func (r containerRow) State() string { return string(r.s.State) }

func (r containerRow) Status() string { return r.s.Status }

func (r containerRow) Names() string {
	var names []string
	for _, n := range r.s.Names {
		names = append(names, strings.TrimPrefix(n, "/"))
	}
	return strings.Join(names, ",")
}

// volumeRow is a volume.
type volumeRow struct{ v volume.Volume }

func (volumeRow) IsRow() {}

func (r volumeRow) Name() string { return r.v.Name }

func (r volumeRow) Driver() string { return r.v.Driver }

func (r volumeRow) Links() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return strconv.FormatInt(r.v.UsageData.RefCount, 10)
}

func (r volumeRow) Size() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return format.Size(r.v.UsageData.Size)
}

// cacheRow is a record of the build cache.
type cacheRow struct{ r build.CacheRecord }

func (cacheRow) IsRow() {}

func (r cacheRow) ID() string { return format.Ellipsis(r.r.ID, 12) }

func (r cacheRow) CacheType() string { return r.r.Type }

func (r cacheRow) Size() string { return format.Size(r.r.Size) }

func (r cacheRow) CreatedSince() string { return format.Ago(r.r.CreatedAt, time.Now()) }

func (r cacheRow) LastUsedSince() string {
	if r.r.LastUsedAt == nil {
		return ""
	}
	return format.Ago(*r.r.LastUsedAt, time.Now())
}

func (r cacheRow) UsageCount() string { return strconv.Itoa(r.r.UsageCount) }

func (r cacheRow) Shared() string { return strconv.FormatBool(r.r.Shared) }
