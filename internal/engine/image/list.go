package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	api "github.com/moby/moby/api/types/image"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
)

// ListOptions says which images to list.
type ListOptions struct {
	// All is Docker's: intermediate images. Lade has none.
	All bool
	// Filters are Docker's, by key: reference, dangling, label, before, since.
	Filters map[string][]string
}

// List returns images, the newest first.
func (s *Service) List(_ context.Context, o ListOptions) ([]api.Summary, error) {
	all, err := s.c.Images.List()
	if err != nil {
		return nil, err
	}
	keep, err := s.filter(o.Filters)
	if err != nil {
		return nil, err
	}
	list := []api.Summary{}
	for _, e := range all {
		if keep(e) {
			list = append(list, s.summary(e))
		}
	}
	slices.SortStableFunc(list, func(a, b api.Summary) int { return cmp.Compare(b.Created, a.Created) })
	return list, nil
}

func (s *Service) summary(e imagestore.Entry) api.Summary {
	desc := e.Record.Descriptor
	return api.Summary{
		ID:          string(e.ID),
		RepoTags:    nonNil(e.Names),
		RepoDigests: nonNil(e.Digests),
		Created:     created(e).Unix(),
		Size:        e.Record.UnpackedSize(),
		SharedSize:  -1,
		Labels:      e.Config.Config.Labels,
		Containers:  int64(len(s.c.Users(string(e.ID)))),
		Descriptor:  &desc,
	}
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// created returns when the image was made; images that do not say so, to be
// reproducible, are of 1970.
func created(e imagestore.Entry) time.Time {
	if e.Config.Created == nil || e.Config.Created.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return *e.Config.Created
}

// filter returns what Docker's filters ask for. Values of one key are
// alternatives, except labels, which must all be there.
func (s *Service) filter(filters map[string][]string) (func(imagestore.Entry) bool, error) {
	var tests []func(imagestore.Entry) bool
	for key, values := range filters {
		var test func(imagestore.Entry) bool
		var err error
		switch key {
		case "reference":
			test, err = byReference(values)
		case "dangling":
			test, err = byDangling(values)
		case "label":
			test = byLabel(values)
		case "before", "since":
			test, err = s.byAge(key, values)
		default:
			err = errdefs.New(errdefs.Invalid, "invalid filter '%.50s'", key)
		}
		if err != nil {
			return nil, err
		}
		tests = append(tests, test)
	}
	return func(e imagestore.Entry) bool {
		for _, t := range tests {
			if !t(e) {
				return false
			}
		}
		return true
	}, nil
}

// byReference matches names against patterns: the whole familiar name, its
// repository, or the last parts of either.
func byReference(patterns []string) (func(imagestore.Entry) bool, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, "x"); err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid filter 'reference=%.100s': %w", p, err)
		}
	}
	return func(e imagestore.Entry) bool {
		return slices.ContainsFunc(e.Refs, func(r imagestore.Ref) bool {
			return slices.ContainsFunc(patterns, func(p string) bool {
				for _, form := range []string{r.Ref.Familiar(), r.Ref.FamiliarName(), r.Ref.String(), r.Ref.Name()} {
					if ok, _ := path.Match(p, form); ok {
						return true
					}
				}
				return false
			})
		})
	}, nil
}

func byDangling(values []string) (func(imagestore.Entry) bool, error) {
	want := map[bool]bool{}
	for _, v := range values {
		yes, err := strconv.ParseBool(v)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid filter 'dangling=%.50s'", v)
		}
		want[yes] = true
	}
	return func(e imagestore.Entry) bool { return want[len(e.Names) == 0] }, nil
}

func byLabel(values []string) func(imagestore.Entry) bool {
	return func(e imagestore.Entry) bool {
		for _, v := range values {
			key, want, hasValue := strings.Cut(v, "=")
			got, ok := e.Config.Config.Labels[key]
			if !ok || hasValue && got != want {
				return false
			}
		}
		return true
	}
}

func (s *Service) byAge(key string, values []string) (func(imagestore.Entry) bool, error) {
	if len(values) != 1 {
		return nil, errdefs.New(errdefs.Invalid, "invalid filter '%s': give one image", key)
	}
	than, err := s.c.Images.Resolve(values[0])
	if err != nil {
		return nil, err
	}
	return func(e imagestore.Entry) bool {
		if key == "before" {
			return created(e).Before(created(than))
		}
		return created(e).After(created(than))
	}, nil
}

// Health returns the health check of an image, or nil: it is in Docker's
// configuration, not in OCI's.
func (s *Service) Health(_ context.Context, img image.Image) (*dockerspec.HealthcheckConfig, error) {
	raw, err := s.c.Transfer.Content.ReadAll(img.ID, image.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image.ShortID(img.ID), err)
	}
	var c struct {
		Config dockerspec.DockerOCIImageConfig
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, errdefs.New(errdefs.DataLoss, "configuration of image %s: %w", image.ShortID(img.ID), err)
	}
	return c.Config.Healthcheck, nil
}

// Inspect returns all that is known of an image.
func (s *Service) Inspect(ctx context.Context, ref string) (api.InspectResponse, error) {
	e, err := s.resolve(ctx, ref)
	if err != nil {
		return api.InspectResponse{}, err
	}
	raw, err := s.c.Transfer.Content.ReadAll(e.ID, image.MaxConfig)
	if err != nil {
		return api.InspectResponse{}, fmt.Errorf("image %s: %w", image.ShortID(e.ID), err)
	}
	// Docker's configuration has more than OCI's: health checks and such.
	var c dockerspec.DockerOCIImage
	if err := json.Unmarshal(raw, &c); err != nil {
		return api.InspectResponse{}, errdefs.New(errdefs.DataLoss, "configuration of image %s: %w", image.ShortID(e.ID), err)
	}
	desc := e.Record.Descriptor
	r := api.InspectResponse{
		ID:           string(e.ID),
		RepoTags:     nonNil(e.Names),
		RepoDigests:  nonNil(e.Digests),
		Author:       e.Config.Author,
		Config:       &c.Config,
		Architecture: e.Config.Architecture,
		Variant:      e.Config.Variant,
		Os:           e.Config.OS,
		OsVersion:    e.Config.OSVersion,
		Size:         e.Record.UnpackedSize(),
		RootFS:       api.RootFS{Type: "layers"},
		Metadata:     api.Metadata{LastTagTime: e.Tagged},
		Descriptor:   &desc,
	}
	if e.Config.Created != nil {
		r.Created = e.Config.Created.Format(time.RFC3339Nano)
	}
	if h := e.Config.History; len(h) > 0 {
		r.Comment = h[len(h)-1].Comment
	}
	for _, d := range e.Config.RootFS.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, string(d))
	}
	return r, nil
}

// History returns the steps that made an image, the last first.
func (s *Service) History(ctx context.Context, ref string) ([]api.HistoryResponseItem, error) {
	e, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	list := []api.HistoryResponseItem{}
	layers := e.Record.Layers
	for _, h := range e.Config.History {
		item := api.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment, Tags: []string{}}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && len(layers) > 0 {
			item.Size = layers[0].Unpacked
			layers = layers[1:]
		}
		list = append(list, item)
	}
	for _, l := range layers { // made by tools that write no history
		list = append(list, api.HistoryResponseItem{ID: "<missing>", Size: l.Unpacked, Tags: []string{}})
	}
	slices.Reverse(list)
	if len(list) > 0 {
		list[0].ID, list[0].Tags = string(e.ID), nonNil(e.Names)
	}
	return list, nil
}

// sameRepository reports whether two names are of one repository.
func sameRepository(a, b reference.Reference) bool { return a.Name() == b.Name() }
