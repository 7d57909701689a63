// Package platform reads the names of platforms, such as linux/arm64/v8, and
// chooses among images the one that a platform runs best. It is pure.
package platform

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// Parse reads os, arch, os/arch or os/arch/variant. What is left out comes
// from def.
func Parse(s string, def ocispec.Platform) (ocispec.Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	for _, p := range parts {
		if p == "" || strings.ContainsRune("_.-", rune(p[0])) || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return ocispec.Platform{}, bad(s)
		}
	}
	var p ocispec.Platform
	switch len(parts) {
	case 1:
		p = Normalize(ocispec.Platform{OS: def.OS, Architecture: parts[0]})
		if isOS(parts[0]) {
			p = ocispec.Platform{OS: parts[0], Architecture: def.Architecture, Variant: def.Variant}
		} else if !isArch(p.Architecture) {
			return ocispec.Platform{}, bad(s)
		}
	case 2:
		p = ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	case 3:
		p = ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	default:
		return ocispec.Platform{}, bad(s)
	}
	return Normalize(p), nil
}

func bad(s string) error {
	return errdefs.Hint(errdefs.New(errdefs.Invalid, "unknown platform %.80q", s), "write os/architecture or os/architecture/variant, such as linux/arm64/v8")
}

// Of returns the platform of a program built for goos and goarch.
func Of(goos, goarch string) ocispec.Platform {
	return Normalize(ocispec.Platform{OS: goos, Architecture: goarch})
}

// Format returns the platform's name.
func Format(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Normalize returns p with each part under its usual name, and without a
// variant that its architecture implies anyway.
func Normalize(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "x86_64", "x86-64", "amd64":
		p.Architecture = "amd64"
		if p.Variant == "v1" {
			p.Variant = ""
		}
	case "i386", "i486", "i586", "i686", "x86":
		p.Architecture, p.Variant = "386", ""
	case "aarch64", "arm64":
		p.Architecture = "arm64"
		if p.Variant == "8" || p.Variant == "v8" {
			p.Variant = ""
		}
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "arm":
		if p.Variant == "" {
			p.Variant = "v7"
		} else if p.Variant[0] != 'v' {
			p.Variant = "v" + p.Variant
		}
	}
	return p
}

// Rank says how well an image for have runs on want: 0 not at all, otherwise
// the more the better. An image for a lesser variant of the architecture runs;
// one for a higher variant may use instructions that are missing.
func Rank(want, have ocispec.Platform) int {
	want, have = Normalize(want), Normalize(have)
	if want.OS != have.OS {
		return 0
	}
	// One step for each variant below; a related architecture is further off.
	w, h := level(want), level(have)
	switch {
	case want.Architecture == have.Architecture && h <= w:
		return 1000 - (w - h)
	case want.Architecture == "arm64" && have.Architecture == "arm" && h <= 8:
		return 500 - (8 - h)
	case want.Architecture == "amd64" && have.Architecture == "386":
		return 400
	}
	return 0
}

// level returns the number of a variant; an architecture's first one where
// none is given.
func level(p ocispec.Platform) int {
	base := map[string]int{"amd64": 1, "arm64": 8, "arm": 7}[p.Architecture]
	if p.Variant == "" {
		return base
	}
	n, err := strconv.Atoi(strings.TrimPrefix(p.Variant, "v"))
	if err != nil || n < 0 || n > 100 {
		return 1 << 20 // unknown: above all that is known
	}
	return n
}

// Choose returns the descriptor whose platform want runs best; of equals the
// first. A descriptor without a platform is the last choice, since its image
// may be for anything. Attestations, which BuildKit lists beside images for
// the platform unknown/unknown, are never chosen.
func Choose(want ocispec.Platform, list []ocispec.Descriptor) (ocispec.Descriptor, bool) {
	type ranked struct {
		desc ocispec.Descriptor
		rank int
	}
	var all []ranked
	for _, d := range list {
		r := 1
		if d.Platform != nil {
			r = Rank(want, *d.Platform)
		}
		if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			r = 0
		}
		if r > 0 {
			all = append(all, ranked{d, r})
		}
	}
	if len(all) == 0 {
		return ocispec.Descriptor{}, false
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(b.rank, a.rank) })
	return all[0].desc, true
}

func isOS(s string) bool {
	return slices.Contains([]string{"linux", "windows", "darwin", "macos", "freebsd", "openbsd", "netbsd", "wasip1"}, s)
}

func isArch(s string) bool {
	return slices.Contains([]string{
		"386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm",
	}, s)
}
