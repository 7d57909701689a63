package image

import (
	"context"
	"slices"
	"strconv"
	"time"

	api "github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/filter"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
)

// RemoveOptions says how far Remove goes.
type RemoveOptions struct {
	// Force removes an image also if it has several names or containers that
	// do not run use it.
	Force bool
	// NoPrune is Docker's: keep parents without a name. Lade has no parents.
	NoPrune bool
}

// Remove takes a name from an image, and removes the image with its last name.
// By id it removes the image with all names, if they are of one repository or
// with Force. An image that containers use is a conflict, in Docker's words.
// The layers that a container uses stay in any case.
func (s *Service) Remove(_ context.Context, ref string, o RemoveOptions) ([]api.DeleteResponse, error) {
	s.removing.Lock()
	defer s.removing.Unlock()
	e, err := s.c.Images.Resolve(ref)
	if err != nil {
		return nil, err
	}
	name, named := nameIn(e, ref)
	if !named {
		return s.removeImage(e, o, nil)
	}
	if !o.Force && single(e.Refs) {
		if users := s.c.Users(string(e.ID)); len(users) > 0 {
			return nil, errdefs.New(errdefs.Conflict, "conflict: unable to remove repository reference \"%s\" (must force) - container %s is using its referenced image %s", ref, short(users[0]), image.ShortID(e.ID))
		}
	}
	gone, err := s.untag(e, name)
	if err != nil {
		return nil, err
	}
	if e, err = s.c.Images.Resolve(string(e.ID)); err != nil {
		return gone, err
	}
	if len(e.Refs) > 0 {
		return gone, nil
	}
	return s.removeImage(e, o, gone)
}

// nameIn returns the name of the image that a text is, or false if it is an
// id.
func nameIn(e imagestore.Entry, ref string) (reference.Reference, bool) {
	r, err := reference.Parse(ref)
	if err != nil {
		return r, false
	}
	if r.Digest != "" {
		r.Tag = ""
	}
	return r, slices.ContainsFunc(e.Refs, func(x imagestore.Ref) bool { return x.Ref == r })
}

// single reports whether names amount to one: one tag at most, and all in one
// repository.
func single(refs []imagestore.Ref) bool {
	tags := 0
	for _, r := range refs {
		if !sameRepository(r.Ref, refs[0].Ref) {
			return false
		}
		if r.Ref.Digest == "" {
			tags++
		}
	}
	return tags <= 1
}

// untag removes a name. With the last tag of a repository go the digests by
// which the image is known there.
func (s *Service) untag(e imagestore.Entry, name reference.Reference) ([]api.DeleteResponse, error) {
	remove := []reference.Reference{name}
	tagged := slices.ContainsFunc(e.Refs, func(r imagestore.Ref) bool {
		return r.Ref != name && r.Ref.Digest == "" && sameRepository(r.Ref, name)
	})
	if name.Digest == "" && !tagged {
		for _, r := range e.Refs {
			if r.Ref.Digest != "" && sameRepository(r.Ref, name) {
				remove = append(remove, r.Ref)
			}
		}
	}
	var gone []api.DeleteResponse
	for _, r := range remove {
		if err := s.c.Images.Untag(r); err != nil {
			return gone, err
		}
		gone = append(gone, api.DeleteResponse{Untagged: r.Familiar()})
	}
	return gone, nil
}

// removeImage removes an image with all its names, unless there is a conflict.
func (s *Service) removeImage(e imagestore.Entry, o RemoveOptions, gone []api.DeleteResponse) ([]api.DeleteResponse, error) {
	if why := s.conflict(e, o.Force); why != "" {
		return gone, errdefs.New(errdefs.Conflict, "conflict: unable to delete %s %s", image.ShortID(e.ID), why)
	}
	deleted, err := s.c.Images.Delete(e.ID, imagestore.DeleteOptions{Named: true})
	for _, r := range deleted.Names {
		gone = append(gone, api.DeleteResponse{Untagged: r.Familiar()})
	}
	if err != nil && deleted.Names == nil && deleted.Layers == nil {
		return gone, err
	}
	gone = append(gone, api.DeleteResponse{Deleted: string(e.ID)})
	for _, l := range deleted.Layers {
		gone = append(gone, api.DeleteResponse{Deleted: string(l)})
	}
	return gone, err
}

// conflict says what stands against removing an image, or "".
func (s *Service) conflict(e imagestore.Entry, force bool) string {
	users := s.c.Users(string(e.ID))
	for _, c := range users {
		if s.c.Running(c) {
			return "(cannot be forced) - image is being used by running container " + short(c)
		}
	}
	switch {
	case force:
		return ""
	case !single(e.Refs):
		return "(must be forced) - image is referenced in multiple repositories"
	case len(users) > 0:
		return "(must be forced) - image is being used by stopped container " + short(users[0])
	}
	return ""
}

func short(containerID string) string { return containerID[:min(12, len(containerID))] }

// Prune removes images that no container uses and that have no name; with the
// filter dangling=false also those with names. Filters are Docker's: dangling,
// until, label and label!. Then it gives back the space of all that belongs to
// no image: what failed pulls have kept, too.
func (s *Service) Prune(ctx context.Context, filters map[string][]string) (api.PruneReport, error) {
	p, err := filter.Prunes(filters, time.Now(), "dangling")
	if err != nil {
		return api.PruneReport{}, err
	}
	dangling, err := onlyDangling(filters["dangling"])
	if err != nil {
		return api.PruneReport{}, err
	}
	report, err := s.prune(ctx, func(e imagestore.Entry) bool {
		return (!dangling || len(e.Names) == 0) && p.Match(created(e), e.Config.Config.Labels)
	})
	if err != nil {
		return report, err
	}
	swept, err := s.c.Images.Sweep(time.Now())
	report.SpaceReclaimed += uint64(swept.Bytes)
	return report, err
}

// onlyDangling reads the filter dangling of a prune: true if it is not there.
func onlyDangling(values []string) (bool, error) {
	only := true
	for _, v := range values {
		yes, err := strconv.ParseBool(v)
		if err != nil {
			return false, errdefs.New(errdefs.Invalid, "invalid filter 'dangling=%.50s'", v)
		}
		only = yes
	}
	return only, nil
}

// prune removes the images that may go and that no container uses.
func (s *Service) prune(ctx context.Context, may func(imagestore.Entry) bool) (api.PruneReport, error) {
	s.removing.Lock()
	defer s.removing.Unlock()
	all, err := s.c.Images.List()
	if err != nil {
		return api.PruneReport{}, err
	}
	report := api.PruneReport{ImagesDeleted: []api.DeleteResponse{}}
	for _, e := range all {
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		if !may(e) || len(s.c.Users(string(e.ID))) > 0 {
			continue
		}
		deleted, err := s.c.Images.Delete(e.ID, imagestore.DeleteOptions{Named: true})
		if err != nil {
			return report, err
		}
		report.SpaceReclaimed += uint64(deleted.Bytes)
		for _, r := range deleted.Names {
			report.ImagesDeleted = append(report.ImagesDeleted, api.DeleteResponse{Untagged: r.Familiar()})
		}
		for _, d := range append([]digest.Digest{e.ID}, deleted.Layers...) {
			report.ImagesDeleted = append(report.ImagesDeleted, api.DeleteResponse{Deleted: string(d)})
		}
	}
	return report, nil
}
