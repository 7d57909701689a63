// Package contents looks into images: which layers they share, which files a
// layer or an image has, and how two images differ. It reads the layers' tars,
// which lie in their EROFS files as they came, and mounts nothing.
package contents

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"lade/api"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/snapshot"
)

// Config is what a Service works with.
type Config struct {
	Images *imagestore.Store
	Layers *snapshot.Store
	// Resolve finds a local image.
	Resolve func(ctx context.Context, ref string) (image.Image, error)
}

// Service looks into images. Its methods may be called concurrently.
type Service struct{ c Config }

// New returns a service.
func New(c Config) *Service { return &Service{c} }

// Tree returns which layers the images have, and share.
func (s *Service) Tree(context.Context) (api.ImageTree, error) {
	all, err := s.c.Images.List()
	if err != nil {
		return api.ImageTree{}, err
	}
	slices.SortFunc(all, func(a, b imagestore.Entry) int { return cmp.Compare(nameOf(a), nameOf(b)) })
	t := api.ImageTree{Roots: []api.TreeLayer{}}
	for _, e := range all {
		layers := e.Record.Layers
		if len(layers) == 0 {
			t.Empty = append(t.Empty, nameOf(e))
			continue
		}
		at := &t.Roots
		for i, l := range layers {
			k := slices.IndexFunc(*at, func(n api.TreeLayer) bool { return n.DiffID == string(l.DiffID) })
			if k < 0 {
				k = len(*at)
				*at = append(*at, api.TreeLayer{DiffID: string(l.DiffID), Size: l.Unpacked, Above: []api.TreeLayer{}})
			}
			n := &(*at)[k]
			n.Users++
			if i == len(layers)-1 {
				n.Images = append(n.Images, nameOf(e))
			}
			at = &n.Above
		}
	}
	return t, nil
}

// nameOf returns all tags of an image, or its id.
func nameOf(e imagestore.Entry) string {
	if len(e.Names) == 0 {
		return image.ShortID(e.ID)
	}
	return strings.Join(e.Names, ", ")
}

// file is a file of a layer, with what tells it from another.
type file struct {
	api.ImageFile
	sum   [sha256.Size]byte // of the content
	attrs string            // extended attributes and device numbers, in one text
}

// Files lists the files of an image as containers see them, sorted by path; or
// those of one layer: a number from 1, the lowest, or the beginning of a DiffID.
// A layer's list also says what it removes.
func (s *Service) Files(ctx context.Context, ref, layer string) ([]api.ImageFile, error) {
	img, err := s.c.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	diffIDs := img.Config.RootFS.DiffIDs
	var files map[string]file
	if layer == "" {
		files, err = s.flatten(ctx, diffIDs, false)
	} else {
		var d digest.Digest
		if d, err = pick(diffIDs, layer); err == nil {
			files, err = s.read(ctx, d, false)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("files of %s: %w", ref, err)
	}
	list := []api.ImageFile{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, files[name].ImageFile)
	}
	return list, nil
}

// pick returns the layer that a text means.
func pick(diffIDs []digest.Digest, layer string) (digest.Digest, error) {
	if n, err := strconv.Atoi(layer); err == nil && n >= 1 && n <= len(diffIDs) {
		return diffIDs[n-1], nil
	}
	var found digest.Digest
	for _, d := range diffIDs {
		if strings.HasPrefix(d.Encoded(), strings.TrimPrefix(layer, "sha256:")) {
			if found != "" && found != d {
				return "", errdefs.New(errdefs.Conflict, "layer %.80q: several begin so", layer)
			}
			found = d
		}
	}
	if found == "" {
		return "", errdefs.Hint(errdefs.New(errdefs.NotFound, "no such layer: %.80q", layer), "give a number from 1 to %d, or a digest of 'lade image inspect'", len(diffIDs))
	}
	return found, nil
}

// Diff returns how image b differs from image a, sorted by path. A directory
// that is gone stands for all that was in it.
func (s *Service) Diff(ctx context.Context, a, b string) ([]api.ImageChange, error) {
	var sides [2]map[string]file
	for i, ref := range []string{a, b} {
		img, err := s.c.Resolve(ctx, ref)
		if err == nil {
			sides[i], err = s.flatten(ctx, img.Config.RootFS.DiffIDs, true)
		}
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", ref, err)
		}
	}
	return differences(sides[0], sides[1]), nil
}

func differences(from, to map[string]file) []api.ImageChange {
	list := []api.ImageChange{}
	for name, f := range to {
		old, ok := from[name]
		switch {
		case !ok && name == "/": // every image has one, whether a layer says so or not
		case !ok:
			list = append(list, api.ImageChange{Kind: "A", Path: name, Size: f.Size})
		case f != old:
			list = append(list, api.ImageChange{Kind: "C", Path: name, Size: f.Size - old.Size})
		}
	}
	for name, old := range from {
		if _, ok := to[name]; ok {
			continue
		}
		parent := path.Dir(name)
		if _, was := from[parent]; was && parent != name {
			if _, is := to[parent]; !is {
				continue // it went with its directory
			}
		}
		list = append(list, api.ImageChange{Kind: "D", Path: name, Size: -old.Size})
	}
	slices.SortFunc(list, func(x, y api.ImageChange) int { return cmp.Compare(x.Path, y.Path) })
	return list
}

// The types of files that a layer says something with.
const (
	removed = "removed"
	opaque  = "opaque"
	hard    = "hardlink"
	dir     = "dir"
)

// flatten puts layers on top of each other.
func (s *Service) flatten(ctx context.Context, diffIDs []digest.Digest, sums bool) (map[string]file, error) {
	all := map[string]file{}
	for _, d := range diffIDs {
		layer, err := s.read(ctx, d, sums)
		if err != nil {
			return nil, err
		}
		stack(all, layer)
	}
	return all, nil
}

// stack puts a layer on top of what is below.
func stack(below, layer map[string]file) {
	// What the layer removes is of the layers below only, so it goes first.
	gone := map[string]bool{} // with all that is in them
	emptied := map[string]bool{}
	for name, f := range layer {
		switch {
		case f.Type == opaque:
			emptied[path.Dir(name)] = true
		case f.Type == removed, f.Type != dir:
			gone[name] = true
		}
	}
	if len(gone)+len(emptied) > 0 {
		for name := range below {
			if gone[name] || within(name, gone) || within(name, emptied) {
				delete(below, name)
			}
		}
	}
	for name, f := range layer {
		if f.Type == opaque || f.Type == removed {
			continue
		}
		if f.Type == hard { // to a file of this layer or of one below
			target, ok := layer[f.Target]
			if !ok {
				target, ok = below[f.Target]
			}
			if ok && target.Type != hard {
				target.Path = name
				f = target
			}
		}
		below[name] = f
	}
}

// within reports whether a directory above name is in dirs.
func within(name string, dirs map[string]bool) bool {
	for name != "/" {
		if name = path.Dir(name); dirs[name] {
			return true
		}
	}
	return false
}

// read lists what is in a layer.
func (s *Service) read(ctx context.Context, d digest.Digest, sums bool) (map[string]file, error) {
	r, err := s.c.Layers.Tar(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	files := map[string]file{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", image.ShortID(d), err)
		}
		f := describe(h)
		if sums && f.Type == "file" {
			sum := sha256.New()
			if _, err := io.Copy(sum, tr); err != nil {
				return nil, fmt.Errorf("layer %s: %w", image.ShortID(d), err)
			}
			sum.Sum(f.sum[:0])
		}
		files[f.Path] = f
	}
}

// describe turns a header of a layer into a file.
func describe(h *tar.Header) file {
	f := file{ImageFile: api.ImageFile{Path: path.Clean("/" + h.Name), Mode: uint32(h.Mode & 0o7777), UID: h.Uid, GID: h.Gid, Size: h.Size}}
	base := path.Base(f.Path)
	switch h.Typeflag {
	case tar.TypeDir:
		f.Type = dir
	case tar.TypeSymlink:
		f.Type, f.Target = "link", h.Linkname
	case tar.TypeLink:
		f.Type, f.Target = hard, path.Clean("/"+h.Linkname)
	case tar.TypeChar:
		f.Type = "char"
	case tar.TypeBlock:
		f.Type = "block"
	case tar.TypeFifo:
		f.Type = "fifo"
	default:
		f.Type = "file"
	}
	switch name, isWhiteout := strings.CutPrefix(base, ".wh."); {
	case base == ".wh..wh..opq":
		f.Type = opaque
	case isWhiteout:
		f.Type, f.Path = removed, path.Join(path.Dir(f.Path), name)
	}
	if f.Type == "char" || f.Type == "block" {
		f.attrs = fmt.Sprintf("%d:%d ", h.Devmajor, h.Devminor)
	}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			f.attrs += fmt.Sprintf("%s=%q ", name, h.PAXRecords[key])
		}
	}
	return f
}
