// Package defaults is what holds of a container of which its request does not
// speak.
package defaults

import (
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container/hostfacts"
	"lade/internal/engine/container/logdriver"
	"lade/internal/engine/container/ocispec"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
)

// Fill fills in what Docker shows for what a request leaves open.
func Fill(d *record.Definition, hostname, runtimeName string) {
	h, c := d.Host, d.Config
	if c.NetworkDisabled {
		h.NetworkMode = network.NetworkNone
	}
	if h.NetworkMode == "" || h.NetworkMode == network.NetworkDefault {
		h.NetworkMode = network.NetworkBridge
	}
	if h.IpcMode == "" {
		h.IpcMode = api.IPCModePrivate
	}
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = api.CgroupnsModePrivate
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if h.Runtime == "" {
		h.Runtime = runtimeName
	}
	if h.LogConfig.Type == "" {
		h.LogConfig = api.LogConfig{Type: logdriver.Local, Config: map[string]string{}}
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = api.RestartPolicyDisabled
	}
	if c.Hostname == "" {
		c.Hostname = ident.Short(d.ID)
		if h.UTSMode.IsHost() || h.NetworkMode.IsHost() {
			c.Hostname = hostname
		}
	}
	if h.MaskedPaths == nil && !h.Privileged {
		h.MaskedPaths = append(ocispec.MaskedPaths(), hostfacts.MaskedPaths()...)
	}
	if h.ReadonlyPaths == nil && !h.Privileged {
		h.ReadonlyPaths = ocispec.ReadonlyPaths()
	}
}

// Platform returns the platform of an image, as os/arch[/variant].
func Platform(img image.Image) string {
	p := []string{img.Config.OS, img.Config.Architecture}
	if img.Config.Variant != "" {
		p = append(p, img.Config.Variant)
	}
	return strings.Join(p, "/")
}

// CheckPlatform refuses an image for another platform than the one asked for.
func CheckPlatform(want string, img image.Image) error {
	have := Platform(img)
	if want == "" || want == have || strings.HasPrefix(have, want+"/") {
		return nil
	}
	// A bare architecture or system is enough where it fits.
	if want == img.Config.OS || want == img.Config.Architecture {
		return nil
	}
	return errdefs.New(errdefs.NotFound, "image with platform %s was found but does not match the specified platform: wanted %s", have, want)
}
