// Package ocispec derives the OCI runtime configuration of a container: what
// its image and its request say, on top of Docker's defaults. It is pure:
// everything that it must know of the machine is in its Input, and the same
// input gives the same configuration.
//
// Nothing of an image but its process (command, environment, user, working
// directory) reaches the configuration: no label becomes an annotation, which
// runtimes take orders from (CVE-2026-53488).
package ocispec

import (
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/image/account"
	"lade/internal/spec"
)

// DefaultPIDs is how many processes and threads a container may have unless
// its request says otherwise: more than programs need, and far from what a
// machine has, so that a fork bomb stays in its container.
const DefaultPIDs = 4096

// Input is all that a configuration is derived from.
type Input struct {
	ID     string
	Config *api.Config
	Host   *api.HostConfig
	Mounts []request.Mount
	Who    account.Identity
	// IDBase and IDSize are the container's range of host ids; 0: no user namespace.
	IDBase, IDSize uint32
	// Join holds the paths of namespaces of other containers.
	Join map[specs.LinuxNamespaceType]string
	// Hosts, Hostname and Resolv are the files that the engine made; one that
	// is empty is not bound.
	Hosts, Hostname, Resolv string
	// Init is the program to bind as the first process; empty for none.
	Init    string
	Machine Machine
}

// Machine is what a configuration must know of the host.
type Machine struct {
	// HardLimits are the highest rlimits that the engine may set, where it
	// cannot set any: by their kernel names (RLIMIT_NOFILE).
	HardLimits map[string]uint64
	// Idmap says for the source of a bind mount in a container with a user
	// namespace how it can be mapped: "idmap", "ridmap" (with what is mounted
	// below) or "".
	Idmap map[string]string
	// Devices are the device nodes to give, all of them for --privileged.
	Devices []specs.LinuxDevice
	// BlockDevices are the numbers of the devices in the request's I/O limits.
	BlockDevices map[string][2]int64
	// Swap is whether the kernel counts swap.
	Swap bool
}

// Check refuses what Build would refuse, before a container exists.
func Check(h *api.HostConfig) error {
	caps, err := capabilities(h)
	if err != nil {
		return err
	}
	_, err = seccomp(h, caps)
	return err
}

// Build derives the configuration.
func Build(in Input) (*specs.Spec, error) {
	s := spec.Default()
	sec, err := request.ParseSecurity(in.Host)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(in.Host)
	if err != nil {
		return nil, err
	}
	s.Root = &specs.Root{Path: "rootfs", Readonly: in.Host.ReadonlyRootfs}
	s.Annotations = in.Host.Annotations
	process(s, in, sec, caps)
	s.Process.Rlimits = rlimits(in)
	namespaces(s, in)
	mounts(s, in)
	if err := resources(s, in); err != nil {
		return nil, err
	}
	if s.Linux.Seccomp, err = seccomp(in.Host, caps); err != nil {
		return nil, err
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = in.Host.MaskedPaths, in.Host.ReadonlyPaths
	if sec.Unmask {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}
	s.Linux.Sysctl = in.Host.Sysctls
	s.Linux.CgroupsPath = cgroupsPath(in)
	return s, nil
}

// MaskedPaths and ReadonlyPaths are those of Docker's default.
func MaskedPaths() []string { return spec.Default().Linux.MaskedPaths }

// ReadonlyPaths are the paths that are read-only by default.
func ReadonlyPaths() []string { return spec.Default().Linux.ReadonlyPaths }

func cgroupsPath(in Input) string {
	parent := in.Host.CgroupParent
	if parent == "" {
		parent = "/lade"
	}
	return "/" + strings.Trim(parent, "/") + "/" + in.ID
}

// initPath is where --init's program appears: where Docker has its own, which
// some images look for.
const initPath = "/sbin/docker-init"

func process(s *specs.Spec, in Input, sec request.Security, caps []string) {
	p := s.Process
	if p == nil {
		p = &specs.Process{}
		s.Process = p
	}
	p.Args = request.Command(in.Config)
	if in.Init != "" {
		p.Args = slices.Concat([]string{initPath, "--"}, p.Args)
	}
	p.Env = Env(in.Config, in.Who.Home)
	p.Cwd = in.Config.WorkingDir
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	p.Terminal = in.Config.Tty
	p.ConsoleSize = nil
	if in.Config.Tty && in.Host.ConsoleSize[0] > 0 && in.Host.ConsoleSize[1] > 0 {
		p.ConsoleSize = &specs.Box{Height: in.Host.ConsoleSize[0], Width: in.Host.ConsoleSize[1]}
	}
	p.User = specs.User{UID: in.Who.UID, GID: in.Who.GID, AdditionalGids: in.Who.Groups, Umask: in.Host.Umask}
	p.NoNewPrivileges = sec.NoNewPrivileges
	p.Capabilities = ProcessCapabilities(in.Who.UID, caps)
	if sec.AppArmor != "" && sec.AppArmor != "unconfined" {
		p.ApparmorProfile = sec.AppArmor
	}
	if adj := in.Host.OomScoreAdj; adj != 0 {
		p.OOMScoreAdj = &adj
	}
}

// ProcessCapabilities returns the five sets for a process: never inheritable
// ones (CVE-2022-24769), and for a user other than root only the bound, which
// is what execve leaves of them.
func ProcessCapabilities(uid uint32, caps []string) *specs.LinuxCapabilities {
	if uid != 0 {
		return &specs.LinuxCapabilities{Bounding: caps}
	}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

// Env returns a container's whole environment.
func Env(c *api.Config, home string) []string {
	base := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if c.Hostname != "" {
		base = append(base, "HOSTNAME="+c.Hostname)
	}
	if c.Tty {
		base = append(base, "TERM=xterm")
	}
	env := request.Environment(base, c.Env)
	if home != "" && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		env = append(env, "HOME="+home)
	}
	return env
}

func capabilities(h *api.HostConfig) ([]string, error) {
	if h.Privileged {
		return spec.AddDrop(nil, []string{"ALL"}, nil)
	}
	var base []string
	if c := spec.Default().Process.Capabilities; c != nil {
		base = c.Bounding
	}
	caps, err := spec.AddDrop(base, h.CapAdd, h.CapDrop)
	if err != nil {
		return nil, errdefs.With(errdefs.Invalid, err)
	}
	return caps, nil
}

// rlimits sets what is asked for, as far as the engine may: a limit above what
// it can raise is lowered to that, rather than to refuse the start.
func rlimits(in Input) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, u := range in.Host.Ulimits {
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)}
		if top, ok := in.Machine.HardLimits[r.Type]; ok {
			r.Soft, r.Hard = min(r.Soft, top), min(r.Hard, top)
		}
		out = append(out, r)
	}
	return out
}

// namespaces keeps, joins or drops each namespace of the default.
func namespaces(s *specs.Spec, in Input) {
	h := in.Host
	share := map[specs.LinuxNamespaceType]bool{
		specs.PIDNamespace:     h.PidMode.IsHost(),
		specs.NetworkNamespace: h.NetworkMode.IsHost(),
		specs.IPCNamespace:     h.IpcMode.IsHost(),
		specs.UTSNamespace:     h.UTSMode.IsHost(),
		specs.CgroupNamespace:  h.CgroupnsMode.IsHost(),
		specs.UserNamespace:    true, // decided below
		specs.TimeNamespace:    true,
	}
	var out []specs.LinuxNamespace
	kinds := []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace,
		specs.UTSNamespace, specs.MountNamespace, specs.CgroupNamespace,
	}
	for _, kind := range kinds {
		path, joins := in.Join[kind]
		switch {
		case joins:
			out = append(out, specs.LinuxNamespace{Type: kind, Path: path})
		case kind == specs.UserNamespace && in.IDBase != 0:
			out = append(out, specs.LinuxNamespace{Type: kind})
			ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: in.IDBase, Size: in.IDSize}}
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, slices.Clone(ids)
		case !share[kind]:
			out = append(out, specs.LinuxNamespace{Type: kind})
		}
	}
	s.Linux.Namespaces = out
	s.Hostname, s.Domainname = "", ""
	if !h.UTSMode.IsHost() && in.Join[specs.UTSNamespace] == "" {
		s.Hostname, s.Domainname = in.Config.Hostname, in.Config.Domainname
	}
}
