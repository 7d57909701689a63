// Package check finds out whether what is on disk is good, and mends what is
// not.
//
// Good means: every blob and layer that a record or a container needs is there
// and has its digest, and every byte below the data root has an owner. A check
// runs beside everything else. What looks wrong is asked about once more before
// it is reported: an image may have been removed while its layers were read.
//
// A blob is mended by fetching it again, by its digest, from where the image's
// names say that it came from; or, if it is a layer that was never compressed,
// from the unpacked form. A layer is mended by unpacking its blob again.
package check

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/api"
	"lade/internal/atomicfile"
	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/ledger"
	"lade/internal/snapshot"
	"lade/internal/transfer"
)

// Config is what a Service works with.
type Config struct {
	Images   *imagestore.Store
	Content  *content.Store
	Layers   *snapshot.Store
	Transfer *transfer.Transfer
	// Ledger tells whose every byte is.
	Ledger func(context.Context) (api.Ledger, error)
	Log    *slog.Logger
}

// Service checks. Its methods may be called concurrently.
type Service struct{ c Config }

// New returns a service.
func New(c Config) *Service { return &Service{c} }

// fetchTimeout bounds how long one registry is given for one blob.
const fetchTimeout = 10 * time.Minute

// Check reads everything, and with repair mends what it can. The error is about
// the check itself; what is wrong stands in the report.
func (s *Service) Check(ctx context.Context, repair bool) (api.CheckReport, error) {
	r := &run{Service: s, ctx: ctx, repair: repair, report: api.CheckReport{Problems: []api.Problem{}}}
	before, err := s.c.Ledger(ctx)
	if err != nil {
		return r.report, err
	}
	blobs, layers, err := s.c.Images.Needs()
	if err != nil {
		return r.report, err
	}
	for _, n := range blobs {
		if err := r.blob(n); err != nil { //nolint:contextcheck // r.ctx is it
			return r.report, err
		}
	}
	for _, n := range layers {
		if err := r.layer(n); err != nil {
			return r.report, err
		}
	}
	if err := r.stacks(); err != nil {
		return r.report, err
	}
	if err := r.unowned(before); err != nil {
		return r.report, err
	}
	for _, p := range r.report.Problems {
		s.c.Log.Warn("check found something wrong", "kind", p.Kind, "object", p.Object, "detail", p.Detail, "repaired", p.Repaired)
	}
	return r.report, nil
}

// run is one check under way.
type run struct {
	*Service
	ctx    context.Context //nolint:containedctx // of this one call
	repair bool
	report api.CheckReport
}

// found adds a problem, and mends it if that is wanted.
func (r *run) found(p api.Problem, mend func() (string, error)) {
	if r.repair {
		how, err := mend()
		p.Repaired, p.Repair = err == nil, how
		if err != nil {
			p.Repair = err.Error()
		}
	}
	r.report.Problems = append(r.report.Problems, p)
}

// needed reports whether a blob or layer is still needed.
func (r *run) needed(d digest.Digest, layer bool) (bool, error) {
	blobs, layers, err := r.c.Images.Needs()
	if layer {
		blobs = layers
	}
	return slices.ContainsFunc(blobs, func(n imagestore.Need) bool { return n.Digest == d }), err
}

func (r *run) blob(n imagestore.Need) error {
	if err := r.ctx.Err(); err != nil {
		return errdefs.With(errdefs.Cancelled, err)
	}
	r.report.Blobs++
	if info, ok, err := r.c.Content.Has(n.Digest); err == nil && ok {
		r.report.Bytes += info.Size
	}
	bad := r.c.Content.Verify(n.Digest)
	if bad == nil {
		return nil
	}
	if still, err := r.needed(n.Digest, false); err != nil || !still {
		return err
	}
	if bad = r.c.Content.Verify(n.Digest); bad == nil {
		return nil // another removed it and brought it back
	}
	r.found(problem("blob", n, bad), func() (string, error) { return r.mendBlob(n) })
	return nil
}

func problem(what string, n imagestore.Need, bad error) api.Problem {
	kind := "unreadable "
	switch {
	case errdefs.Is(bad, errdefs.NotFound):
		kind = "missing "
	case errdefs.Is(bad, errdefs.DataLoss):
		kind = "damaged "
	}
	return api.Problem{Kind: kind + what, Object: string(n.Digest), Detail: bad.Error(), Users: n.By}
}

// mendBlob looks for the blob's bytes in the unpacked layer, then in the
// registries that the image has names of.
func (r *run) mendBlob(n imagestore.Need) (string, error) {
	if n.DiffID != "" && r.c.Layers.Verify(n.DiffID) == nil {
		for _, packed := range []bool{false, true} {
			if r.repack(n, packed) == nil {
				return "made again from the unpacked layer", nil
			}
		}
	}
	if n.In.Digest != "" {
		if desc, err := r.configIn(n); err == nil {
			n.Blob = desc
		}
	}
	why := errdefs.New(errdefs.NotFound, "the image has no name that a registry could know; load or pull it again")
	for _, from := range n.Origins {
		ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
		err := r.c.Transfer.Refetch(ctx, transfer.RefetchOptions{Blob: n.Blob, Manifest: n.Manifest, From: from})
		cancel()
		if err == nil {
			return "fetched again from " + from.Name(), nil
		}
		why = err
	}
	return "", why
}

// repack makes a blob again of its layer's tar.
func (r *run) repack(n imagestore.Need, packed bool) error {
	tar, err := r.c.Layers.Tar(n.DiffID)
	if err != nil {
		return err
	}
	defer tar.Close()
	return r.c.Transfer.Repack(n.Blob, tar, packed)
}

// configIn returns the configuration's descriptor, of which records have no more
// than the digest.
func (r *run) configIn(n imagestore.Need) (ocispec.Descriptor, error) {
	raw, err := r.c.Content.ReadAll(n.In.Digest, image.MaxManifest)
	if err != nil {
		return n.Blob, err
	}
	m, err := image.ParseManifest(raw, n.In.MediaType)
	if err == nil && m.Config.Digest != n.Digest {
		err = errdefs.New(errdefs.DataLoss, "manifest %s is of another configuration", n.In.Digest)
	}
	return m.Config, err
}

func (r *run) layer(n imagestore.Need) error {
	if err := r.ctx.Err(); err != nil {
		return errdefs.With(errdefs.Cancelled, err)
	}
	r.report.Layers++
	if l, err := r.c.Layers.Layer(n.Digest); err == nil {
		r.report.Bytes += l.Size
	}
	bad := r.c.Layers.Verify(n.Digest)
	if bad == nil {
		return nil
	}
	if still, err := r.needed(n.Digest, true); err != nil || !still {
		return err
	}
	if bad = r.c.Layers.Verify(n.Digest); bad == nil {
		return nil
	}
	r.found(problem("layer", n, bad), func() (string, error) {
		if n.Blob.Digest == "" {
			return "", errdefs.New(errdefs.NotFound, "only containers need it, and its image is gone; pull that again")
		}
		err := r.c.Transfer.Remake(r.ctx, n.Blob, n.Digest, r.c.Layers.Replace)
		return "unpacked again; containers that run keep the old one until they end", err
	})
	return nil
}

// stacks checks what some stacks of layers need on top.
func (r *run) stacks() error {
	_, wrong, err := r.c.Layers.VerifyStacks(r.repair)
	if err != nil {
		return fmt.Errorf("check stacks: %w", err)
	}
	for _, bad := range wrong {
		r.found(api.Problem{Kind: "damaged stack", Object: "supplement", Detail: bad.Error()}, func() (string, error) {
			return "removed; it is made again when it is needed", nil
		})
	}
	return nil
}

// unowned reports what nobody knew before and nobody knows now.
func (r *run) unowned(before api.Ledger) error {
	paths := map[string]bool{}
	for _, l := range before.Lines {
		if l.Kind == string(ledger.Unowned) {
			paths[l.Path] = true
		}
	}
	if len(paths) == 0 {
		return nil
	}
	after, err := r.c.Ledger(r.ctx)
	if err != nil {
		return err
	}
	for _, l := range after.Lines {
		if l.Kind != string(ledger.Unowned) || !paths[l.Path] {
			continue
		}
		path := filepath.Join(after.Root, l.Path)
		r.found(api.Problem{Kind: "unowned", Object: path, Detail: fmt.Sprintf("%d files, %d bytes, that nobody knows", l.Files, l.Bytes)}, func() (string, error) {
			if !ours(l.Path) {
				return "", errdefs.New(errdefs.Conflict, "Lade gives no such names; if it is nothing of yours, remove it by hand")
			}
			return "removed", os.RemoveAll(path)
		})
	}
	return nil
}

// ours reports whether a path is of the form of those that this engine makes
// and may have left.
func ours(path string) bool {
	dir, name := filepath.Split(path)
	return strings.HasPrefix(name, atomicfile.TempPrefix) || dir == "containers/" && ident.IsID(name)
}
