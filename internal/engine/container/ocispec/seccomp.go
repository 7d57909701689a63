package ocispec

import (
	"encoding/json"
	"runtime"
	"slices"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/spec"
)

// maxProfile bounds a seccomp profile: Docker's own has 25 KB.
const maxProfile = 4 << 20

// profile is a seccomp profile as files have it: Docker's form, of which the
// OCI's is a part.
type profile struct {
	specs.LinuxSeccomp
	ArchMap []struct {
		Arch     specs.Arch   `json:"architecture"`
		SubArchs []specs.Arch `json:"subArchitectures"`
	} `json:"archMap"`
	Syscalls []struct {
		specs.LinuxSyscall
		Name     string `json:"name"`
		Includes filter `json:"includes"`
		Excludes filter `json:"excludes"`
	} `json:"syscalls"`
}

// filter says where a rule of a profile goes.
type filter struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

// seccomp returns the filter that a request asks for; nil for none.
func seccomp(h *api.HostConfig, caps []string) (*specs.LinuxSeccomp, error) {
	sec, err := request.ParseSecurity(h)
	switch {
	case err != nil:
		return nil, err
	case sec.Unconfined:
		return nil, nil
	case sec.Seccomp == "":
		return spec.DefaultSeccomp(caps), nil
	}
	return loadProfile([]byte(sec.Seccomp), caps, runtime.GOARCH)
}

// loadProfile reads a profile for a container with caps on a machine of arch
// (Go's name, which the profiles use too).
func loadProfile(raw []byte, caps []string, arch string) (*specs.LinuxSeccomp, error) {
	if len(raw) > maxProfile {
		return nil, errdefs.New(errdefs.Invalid, "the seccomp profile has more than %d bytes", maxProfile)
	}
	var p profile
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "Decoding seccomp profile failed: %w", err), "docker's client sends the content of a profile, not its path")
	}
	if p.DefaultAction == "" {
		return nil, errdefs.New(errdefs.Invalid, "the seccomp profile has no defaultAction")
	}
	if len(p.ArchMap) > 0 && len(p.Architectures) > 0 {
		return nil, errdefs.New(errdefs.Invalid, "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'")
	}
	out := p.LinuxSeccomp
	native := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64, "riscv64": specs.ArchRISCV64}[arch]
	for _, m := range p.ArchMap {
		if m.Arch == native {
			out.Architectures = append([]specs.Arch{m.Arch}, m.SubArchs...)
		}
	}
	out.Syscalls = nil
	for _, r := range p.Syscalls {
		if r.Name != "" {
			if len(r.Names) > 0 {
				return nil, errdefs.New(errdefs.Invalid, "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
			}
			r.Names = []string{r.Name}
		}
		if len(r.Names) == 0 || !r.Includes.matchAll(caps, arch) || r.Excludes.matchAny(caps, arch) {
			continue
		}
		out.Syscalls = append(out.Syscalls, r.LinuxSyscall)
	}
	return &out, nil
}

// matchAll reports whether every condition holds; none is none against it.
// Kernels older than any minKernel of a known profile (4.8) do not run Lade.
func (f filter) matchAll(caps []string, arch string) bool {
	for _, c := range f.Caps {
		if !slices.Contains(caps, c) {
			return false
		}
	}
	return len(f.Arches) == 0 || slices.Contains(f.Arches, arch)
}

// matchAny reports whether one of the conditions holds.
func (f filter) matchAny(caps []string, arch string) bool {
	for _, c := range f.Caps {
		if slices.Contains(caps, c) {
			return true
		}
	}
	return slices.Contains(f.Arches, arch)
}
