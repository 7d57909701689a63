// Package image is the model of a container image: what a manifest and a
// configuration say, checked and put in one value. It does no I/O.
package image

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is one image for one platform, as the store knows it.
type Image struct {
	// ID is the digest of the configuration, as in Docker's classic store:
	// it is the same for an image that was pulled, loaded or built.
	ID digest.Digest
	// Manifest is the digest of the image manifest, and Size its layers'
	// compressed bytes together.
	Manifest digest.Digest
	Size     int64
	// Config is the parsed configuration. Config.RootFS.DiffIDs are the
	// digests of the uncompressed layers, lowest first.
	Config ocispec.Image
	// Names are the references that lead to this image, in familiar form
	// (debian:bookworm); Digests those by digest (debian@sha256:…).
	Names   []string
	Digests []string
}
