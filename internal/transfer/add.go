package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/reference"
)

// Add makes an image of a configuration and layers, which are plain tars, and
// gives it names. Layers are packed as registries want them. The same input makes the same image: nothing is added that
// would tell when or where. The configuration's RootFS is filled in.
func (t *Transfer) Add(ctx context.Context, config ocispec.Image, layers [][]byte, names ...reference.Reference) (Result, error) {
	l := &load{t: t, rep: newReporter(nil), lease: t.Images.Lease(), files: map[string]entry{}}
	res, err := l.addImage(ctx, config, layers, names)
	if err = finish(l.lease, err); err != nil {
		return Result{}, fmt.Errorf("add image: %w", err)
	}
	return res, nil
}

// The files of the archive that Add plays.
const configName = "config"

func (l *load) addImage(ctx context.Context, config ocispec.Image, layers [][]byte, names []reference.Reference) (Result, error) {
	d := dockerImage{Config: configName}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for i, tar := range layers {
		diffID, desc, err := l.pack(func(w io.Writer) (bool, error) {
			_, err := w.Write(tar)
			return true, err
		})
		if err != nil {
			return Result{}, err
		}
		name := fmt.Sprintf("layer%d", i)
		l.files[name] = entry{digest: desc.Digest, size: desc.Size, packed: image.Gzip}
		d.Layers = append(d.Layers, name)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return Result{}, err
	}
	e, err := l.bytes(configName, raw)
	if err != nil {
		return Result{}, err
	}
	l.files[configName] = e
	f, err := l.derive(d)
	if err != nil {
		return Result{}, err
	}
	f.names = names
	return l.store(ctx, f)
}
