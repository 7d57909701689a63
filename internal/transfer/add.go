package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/reference"
)

// Add makes an image of a configuration and layers, which are plain tars, and
// gives it names. The same input makes the same image: nothing is added that
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
		name := fmt.Sprintf("layer%d", i)
		e, err := l.blob(name, bytes.NewReader(tar), int64(len(tar)))
		if err != nil {
			return Result{}, err
		}
		e.packed = image.Plain
		l.files[name] = e
		d.Layers = append(d.Layers, name)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, e.digest)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return Result{}, err
	}
	e, err := l.blob(configName, bytes.NewReader(raw), int64(len(raw)))
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
