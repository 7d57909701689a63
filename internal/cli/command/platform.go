package command

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// HasPlatform returns an error if an image that is here is for another platform
// than the one that a flag names. An image has one: what else its index lists is
// in its registry.
func (e *Env) HasPlatform(ctx context.Context, ref, want string) error {
	p, err := ParsePlatform(want)
	if p == nil || err != nil {
		return err
	}
	c, err := e.Client()
	if err != nil {
		return err
	}
	raw, err := c.InspectImageRaw(ctx, ref)
	if err != nil {
		return err
	}
	var i image.InspectResponse
	if err := json.Unmarshal(raw, &i); err != nil {
		return err
	}
	if i.Os == p.OS && i.Architecture == p.Architecture && (p.Variant == "" || p.Variant == i.Variant) {
		return nil
	}
	return errdefs.New(errdefs.NotFound, "image with reference %s was found but does not provide the specified platform (%s)", ref, want)
}

// ParsePlatform reads os/arch[/variant]; nil is no platform.
func ParsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid platform %q", s), "write os/architecture or os/architecture/variant, such as linux/arm64/v8")
	}
	p := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}
