package image

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// The media types of Docker's own formats (schema 2); their content is OCI's
// but for the names.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+"
	ociForeign     = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// Limits of what a manifest may say. Real ones stay far below.
const (
	// MaxManifest bounds manifests and indexes in bytes; registries refuse
	// larger ones themselves.
	MaxManifest = 4 << 20
	// MaxConfig bounds configurations in bytes.
	MaxConfig = 8 << 20
	maxLayers = 500
	maxIndex  = 10000
	maxSize   = 1 << 50
)

// IsIndex reports whether the media type is of a list of manifests.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerList
}

// IsManifest reports whether the media type is of one image's manifest.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

// Compression is how a layer's tar is packed.
type Compression string

// The compressions that Lade reads.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// LayerCompression returns the compression that a layer's media type names.
// Layers that are elsewhere (foreign, nondistributable) are refused: their URL
// is whoever's who wrote the manifest.
func LayerCompression(mediaType string) (Compression, error) {
	for _, foreign := range []string{dockerForeign, ociForeign} {
		if strings.HasPrefix(mediaType, foreign) {
			return "", errdefs.New(errdefs.NotImplemented, "foreign layer (%s): it is not kept by registries, and Lade fetches nothing from other places", mediaType)
		}
	}
	switch mediaType {
	case ocispec.MediaTypeImageLayer, dockerLayer:
		return Plain, nil
	case ocispec.MediaTypeImageLayerGzip, dockerLayer + ".gzip":
		return Gzip, nil
	case ocispec.MediaTypeImageLayerZstd, dockerLayer + ".zstd":
		return Zstd, nil
	}
	return "", errdefs.New(errdefs.NotImplemented, "layer of type %.100q: not a tar that Lade reads", mediaType)
}

// probe finds out what a document is by its own words.
type probe struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	Manifests     json.RawMessage `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// MediaTypeOf returns the type of a manifest or index: the one it was
// announced with, which the document must not contradict, or if it was
// announced without any, the one it gives itself. A document that could be
// read as two things is refused (CVE-2021-41190).
func MediaTypeOf(raw []byte, announced string) (string, error) {
	var p probe
	if err := json.Unmarshal(raw, &p); err != nil {
		return "", errdefs.New(errdefs.DataLoss, "manifest: %w", err)
	}
	list, single := p.Manifests != nil, p.Config != nil || p.Layers != nil
	mediaType := announced
	switch {
	case p.SchemaVersion == 1 || p.FSLayers != nil || strings.HasPrefix(announced, dockerSchema1):
		return "", errdefs.Hint(errdefs.New(errdefs.NotImplemented, "manifest of Docker's schema 1"), "it went out of use in 2017: push the image again with a newer tool")
	case announced != "" && p.MediaType != "" && announced != p.MediaType:
		return "", errdefs.New(errdefs.DataLoss, "manifest was announced as %.100q and calls itself %.100q", announced, p.MediaType)
	case mediaType == "" && p.MediaType != "":
		mediaType = p.MediaType
	case mediaType == "" && list:
		mediaType = ocispec.MediaTypeImageIndex
	case mediaType == "":
		mediaType = ocispec.MediaTypeImageManifest
	}
	switch {
	case p.SchemaVersion != 2:
		return "", errdefs.New(errdefs.DataLoss, "manifest has schema version %d, not 2", p.SchemaVersion)
	case !IsIndex(mediaType) && !IsManifest(mediaType):
		return "", errdefs.New(errdefs.NotImplemented, "document of type %.100q is no image manifest", mediaType)
	case list && single, IsIndex(mediaType) != list:
		return "", errdefs.New(errdefs.DataLoss, "manifest of type %s has the fields of another type", mediaType)
	}
	return mediaType, nil
}

// ParseIndex reads an index or a docker manifest list.
func ParseIndex(raw []byte, announced string) (ocispec.Index, error) {
	var ix ocispec.Index
	mt, err := MediaTypeOf(raw, announced)
	if err != nil {
		return ix, err
	}
	if !IsIndex(mt) {
		return ix, errdefs.New(errdefs.DataLoss, "%s is no index", mt)
	}
	if err := json.Unmarshal(raw, &ix); err != nil {
		return ix, errdefs.New(errdefs.DataLoss, "index: %w", err)
	}
	if len(ix.Manifests) > maxIndex {
		return ix, errdefs.New(errdefs.Exhausted, "index lists %d manifests, more than %d", len(ix.Manifests), maxIndex)
	}
	for _, d := range ix.Manifests {
		if err := checkDescriptor(d); err != nil {
			return ix, fmt.Errorf("index: %w", err)
		}
	}
	ix.MediaType = mt
	return ix, nil
}

// ParseManifest reads the manifest of one image, and refuses what is none: an
// artifact, or an image with layers that Lade cannot read.
func ParseManifest(raw []byte, announced string) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	mt, err := MediaTypeOf(raw, announced)
	if err != nil {
		return m, err
	}
	if !IsManifest(mt) {
		return m, errdefs.New(errdefs.DataLoss, "%s is no manifest of one image", mt)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, errdefs.New(errdefs.DataLoss, "manifest: %w", err)
	}
	m.MediaType = mt
	if err := checkDescriptor(m.Config); err != nil {
		return m, fmt.Errorf("manifest: configuration: %w", err)
	}
	switch {
	case m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != DockerConfig:
		return m, errdefs.New(errdefs.NotImplemented, "not a container image: its configuration is of type %.100q", m.Config.MediaType)
	case m.Config.Size > MaxConfig:
		return m, errdefs.New(errdefs.Exhausted, "configuration has %d bytes, more than %d", m.Config.Size, MaxConfig)
	case len(m.Layers) > maxLayers:
		return m, errdefs.New(errdefs.Exhausted, "manifest has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	for i, l := range m.Layers {
		if err := checkDescriptor(l); err != nil {
			return m, fmt.Errorf("manifest: layer %d: %w", i, err)
		}
		if _, err := LayerCompression(l.MediaType); err != nil {
			return m, fmt.Errorf("manifest: layer %d (%s): %w", i, l.Digest, err)
		}
	}
	return m, nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := reference.CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 || d.Size > maxSize {
		return errdefs.New(errdefs.Invalid, "size %d of %s is out of range", d.Size, d.Digest)
	}
	return nil
}

// Refers returns what a manifest or index refers to, whatever it is of: an
// image, an artifact, an attestation. Blobs are the configuration and the
// layers, manifests the entries of an index.
func Refers(raw []byte, announced string) (blobs, manifests []ocispec.Descriptor, err error) {
	mt, err := MediaTypeOf(raw, announced)
	if err != nil {
		return nil, nil, err
	}
	if IsIndex(mt) {
		ix, err := ParseIndex(raw, mt)
		return nil, ix.Manifests, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, nil, errdefs.New(errdefs.DataLoss, "manifest: %w", err)
	}
	if len(m.Layers) > maxLayers {
		return nil, nil, errdefs.New(errdefs.Exhausted, "manifest has %d layers, more than %d", len(m.Layers), maxLayers)
	}
	blobs = append([]ocispec.Descriptor{m.Config}, m.Layers...)
	for _, d := range blobs {
		if err := checkDescriptor(d); err != nil {
			return nil, nil, fmt.Errorf("manifest: %w", err)
		}
	}
	return blobs, nil, nil
}

// ParseConfig reads an image's configuration.
func ParseConfig(raw []byte) (ocispec.Image, error) {
	var c ocispec.Image
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, errdefs.New(errdefs.DataLoss, "image configuration: %w", err)
	}
	if t := c.RootFS.Type; t != "layers" && t != "" {
		return c, errdefs.New(errdefs.NotImplemented, "image configuration: root file system of type %.50q", t)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := reference.CheckDigest(d); err != nil {
			return c, fmt.Errorf("image configuration: layer %d: %w", i, err)
		}
	}
	return c, nil
}

// New puts an image together from its checked parts: the descriptor of its
// manifest, the manifest, and the bytes of the configuration that it names.
func New(desc ocispec.Descriptor, m ocispec.Manifest, rawConfig []byte) (Image, error) {
	c, err := ParseConfig(rawConfig)
	if err != nil {
		return Image{}, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return Image{}, errdefs.New(errdefs.DataLoss, "manifest %s has %d layers, its configuration %d", desc.Digest, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	img := Image{ID: m.Config.Digest, Manifest: desc.Digest, Config: c}
	for _, l := range m.Layers {
		img.Size += l.Size
	}
	return img, nil
}

// ShortID returns the first twelve digits of a digest, as shown to people.
func ShortID(d digest.Digest) string {
	_, hex, ok := strings.Cut(string(d), ":")
	if !ok || len(hex) < 12 {
		return string(d)
	}
	return hex[:12]
}
