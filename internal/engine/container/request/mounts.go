package request

import (
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/ident"
)

// Mount is one mount that a request asks for, checked and in one form.
type Mount struct {
	Type     mount.Type `json:"type"`
	Source   string     `json:"source,omitempty"` // a host path; empty for tmpfs
	Target   string     `json:"target"`           // absolute and clean
	ReadOnly bool       `json:"readOnly,omitempty"`
	// MakeSource: a missing source directory is made, as -v does.
	MakeSource bool `json:"makeSource,omitempty"`
	// NonRecursive binds only the named file system, not what is mounted in it.
	NonRecursive bool `json:"nonRecursive,omitempty"`
	// RecursiveReadOnly is whether read-only goes for what is mounted below.
	RecursiveReadOnly bool              `json:"recursiveReadOnly,omitempty"`
	Propagation       mount.Propagation `json:"propagation,omitempty"`
	Mode              string            `json:"mode,omitempty"`  // as the client wrote it, for inspect
	Tmpfs             []string          `json:"tmpfs,omitempty"` // options of a tmpfs

	// Volume is the volume's name; of an anonymous one, from when it is made.
	Volume    string `json:"volume,omitempty"`
	Anonymous bool   `json:"anonymous,omitempty"`
	NoCopy    bool   `json:"noCopy,omitempty"`  // an empty volume is not filled from the image
	Subpath   string `json:"subpath,omitempty"` // within the volume, or the image
	// Image is the image that is mounted, and DiffIDs are its layers.
	Image   string          `json:"image,omitempty"`
	DiffIDs []digest.Digest `json:"diffIDs,omitempty"`
	// Make says how the volume is made if it is not there. It is not kept.
	Make VolumeOptions `json:"-"`
}

// Handed reports whether the engine opens what is mounted, and hands it to the
// shim: what must be resolved where somebody else writes, what has no path, and
// what the shim's mounts, which are slaves of the host's, cannot give.
func (m *Mount) Handed() bool {
	return m.Subpath != "" || m.Type == mount.TypeImage || m.Shared()
}

// Shared reports whether what is mounted below in the container appears on the
// host.
func (m *Mount) Shared() bool {
	return m.Propagation == mount.PropagationShared || m.Propagation == mount.PropagationRShared
}

// VolumeOptions say how a volume is made.
type VolumeOptions struct {
	Driver  string
	Options map[string]string
	Labels  map[string]string
}

// Mounts reads all mounts of a request: -v, --mount, --tmpfs, the paths that
// image and request declare as volumes, and inherited ones, of the containers
// that --volumes-from names. They come sorted by depth, so that a mount never
// hides one below it.
func Mounts(c *api.Config, h *api.HostConfig, inherited []Mount) ([]Mount, error) {
	out, err := explicit(h)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, m := range out {
		if seen[m.Target] {
			return nil, errdefs.New(errdefs.Invalid, "Duplicate mount point: %s", m.Target)
		}
		seen[m.Target] = true
	}
	// What is asked for in so many words goes before what comes with others,
	// and of those the last.
	for _, m := range slices.Backward(inherited) {
		if !seen[m.Target] {
			out = append(out, m)
		}
		seen[m.Target] = true
	}
	for _, target := range slices.Sorted(maps.Keys(c.Volumes)) {
		m := Mount{Type: mount.TypeVolume, Target: path.Clean("/" + target), Anonymous: true}
		if !seen[m.Target] {
			out = append(out, m)
		}
		seen[m.Target] = true
	}
	slices.SortStableFunc(out, func(a, b Mount) int { return depth(a.Target) - depth(b.Target) })
	return out, nil
}

// explicit reads the mounts that a request names.
func explicit(h *api.HostConfig) ([]Mount, error) {
	var out []Mount
	for _, b := range h.Binds {
		m, err := ParseBind(b)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, r := range h.Mounts {
		m, err := fromAPI(r)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid mount config for type %q: %w", r.Type, err)
		}
		out = append(out, m)
	}
	for _, target := range slices.Sorted(maps.Keys(h.Tmpfs)) {
		m, err := parseTmpfs(target, h.Tmpfs[target])
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// ParseVolumesFrom reads CONTAINER[:ro|:rw] of --volumes-from.
func ParseVolumesFrom(s string) (container string, readOnly bool, err error) {
	container, mode, given := strings.Cut(s, ":")
	if container == "" {
		return "", false, errdefs.New(errdefs.Invalid, "malformed volumes-from specification: %s", s)
	}
	if !given {
		return container, false, nil
	}
	m := Mount{Propagation: mount.PropagationRPrivate}
	if err := m.volumeOptions(mode); err != nil || m.NoCopy {
		return "", false, errdefs.New(errdefs.Invalid, "invalid mode for volumes-from: %s", mode)
	}
	return container, m.ReadOnly, nil
}

// Inherit is a mount of another container as --volumes-from takes it over.
func (m Mount) Inherit(readOnly bool) Mount {
	m.ReadOnly = m.ReadOnly || readOnly
	m.RecursiveReadOnly = m.RecursiveReadOnly || readOnly && !m.NonRecursive
	m.NoCopy, m.Make = true, VolumeOptions{} // it is what the other one has made of it
	return m
}

func depth(p string) int { return strings.Count(p, "/") }

// checkTarget refuses what cannot be a mount point in a container.
func checkTarget(p string) error {
	switch {
	case p == "":
		return errdefs.New(errdefs.Invalid, "field Target must not be empty")
	case !path.IsAbs(p) || strings.ContainsAny(p, "\x00\n"):
		return errdefs.New(errdefs.Invalid, "invalid mount path: '%s' mount path must be absolute", p)
	case path.Clean(p) == "/":
		return errdefs.New(errdefs.Invalid, "invalid specification: destination can't be '/'")
	}
	return nil
}

func checkSource(p string) error {
	if !path.IsAbs(p) {
		return errdefs.New(errdefs.Invalid, "invalid mount path: '%s' mount path must be absolute", p)
	}
	if strings.ContainsAny(p, "\x00\n") {
		return errdefs.New(errdefs.Invalid, "invalid mount path: %q", p)
	}
	return nil
}

// ParseBind reads the form [source:]target[:options] of -v. A source that is no
// path is the name of a volume.
func ParseBind(s string) (Mount, error) {
	bad := func() (Mount, error) {
		return Mount{}, errdefs.New(errdefs.Invalid, "invalid volume specification: '%s'", s)
	}
	f := strings.Split(s, ":")
	if len(f) > 3 || slices.Contains(f, "") {
		return bad()
	}
	if len(f) == 1 {
		if err := checkTarget(f[0]); err != nil {
			return bad()
		}
		return Mount{Type: mount.TypeVolume, Target: path.Clean(f[0]), Anonymous: true}, nil
	}
	if err := checkTarget(f[1]); err != nil {
		return Mount{}, errdefs.New(errdefs.Invalid, "invalid volume specification: '%s': %w", s, err)
	}
	m := Mount{Target: path.Clean(f[1])}
	if len(f) == 3 {
		m.Mode = f[2]
	}
	if !path.IsAbs(f[0]) {
		m.Type, m.Volume = mount.TypeVolume, f[0]
		if err := checkVolumeName(f[0]); err != nil {
			return Mount{}, err
		}
		return m, m.volumeOptions(m.Mode)
	}
	if err := checkSource(f[0]); err != nil {
		return bad()
	}
	m.Type, m.Source, m.MakeSource, m.Propagation = mount.TypeBind, path.Clean(f[0]), true, mount.PropagationRPrivate
	return m, m.bindOptions(m.Mode)
}

func checkVolumeName(name string) error {
	if ident.IsName(name) {
		return nil
	}
	return errdefs.New(errdefs.Invalid, "%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name)
}

// volumeOptions reads the third field of -v for a volume. What is mounted in
// one is nobody's business elsewhere: it has no propagation.
func (m *Mount) volumeOptions(s string) error {
	p := m.Propagation
	if err := m.bindOptions(s); err != nil {
		return err
	}
	for o := range strings.SplitSeq(s, ",") {
		if slices.Contains(mount.Propagations, mount.Propagation(o)) {
			return errdefs.New(errdefs.Invalid, "invalid mode: %s", s)
		}
	}
	m.Propagation = p
	return nil
}

// bindOptions reads the third field of -v. The labels z and Z are accepted;
// they mean nothing where there is no SELinux.
func (m *Mount) bindOptions(s string) error {
	bad := errdefs.New(errdefs.Invalid, "invalid mode: %s", s)
	if s == "" {
		return nil
	}
	var rw, label, prop int
	for o := range strings.SplitSeq(s, ",") {
		switch o {
		case "ro":
			m.ReadOnly, m.RecursiveReadOnly = true, true
			rw++
		case "rw":
			rw++
		case "z", "Z":
			label++
		case "nocopy":
			m.NoCopy = true
		case "U":
			return errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid mode: %s", s), "leave U out: the ids in volumes and bind mounts are the container's own already; to give files to its user, chown them in it")
		case "consistent", "cached", "delegated", "default", "bind", "rbind", "idmap": // the last is how it is done
		default:
			if !slices.Contains(mount.Propagations, mount.Propagation(o)) {
				return bad
			}
			m.Propagation = mount.Propagation(o)
			prop++
		}
	}
	if rw > 1 || label > 1 || prop > 1 {
		return bad
	}
	return nil
}

func fromAPI(r mount.Mount) (Mount, error) {
	if err := checkTarget(r.Target); err != nil {
		return Mount{}, err
	}
	m := Mount{Type: r.Type, Target: path.Clean(r.Target), ReadOnly: r.ReadOnly}
	if r.Type != mount.TypeBind && r.BindOptions != nil {
		return Mount{}, errdefs.New(errdefs.Invalid, "field BindOptions must not be specified")
	}
	if r.Type != mount.TypeTmpfs && r.TmpfsOptions != nil {
		return Mount{}, errdefs.New(errdefs.Invalid, "field TmpfsOptions must not be specified")
	}
	if r.Type != mount.TypeVolume && r.VolumeOptions != nil {
		return Mount{}, errdefs.New(errdefs.Invalid, "field VolumeOptions must not be specified")
	}
	if r.Type != mount.TypeImage && r.ImageOptions != nil {
		return Mount{}, errdefs.New(errdefs.Invalid, "field ImageOptions must not be specified")
	}
	switch r.Type {
	case mount.TypeImage:
		if r.Source == "" {
			return Mount{}, errdefs.New(errdefs.Invalid, "field Source must not be empty")
		}
		m.Image, m.ReadOnly = r.Source, true
		if r.ImageOptions == nil || r.ImageOptions.Subpath == "" {
			return m, nil
		}
		return m, m.setSubpath(r.ImageOptions.Subpath)
	case mount.TypeBind:
		if r.Source == "" {
			return Mount{}, errdefs.New(errdefs.Invalid, "field Source must not be empty")
		}
		if err := checkSource(r.Source); err != nil {
			return Mount{}, err
		}
		m.Source, m.Propagation, m.RecursiveReadOnly = path.Clean(r.Source), mount.PropagationRPrivate, r.ReadOnly
		return m, m.apiBind(r.BindOptions)
	case mount.TypeTmpfs:
		if r.Source != "" {
			return Mount{}, errdefs.New(errdefs.Invalid, "field Source must not be specified")
		}
		return m, m.apiTmpfs(r.TmpfsOptions)
	case mount.TypeVolume:
		m.Volume, m.Anonymous = r.Source, r.Source == ""
		if r.Source != "" {
			if err := checkVolumeName(r.Source); err != nil {
				return Mount{}, err
			}
		}
		return m, m.apiVolume(r.VolumeOptions)
	default:
		return Mount{}, errdefs.New(errdefs.Invalid, "mount type unknown")
	}
}

func (m *Mount) apiBind(o *mount.BindOptions) error {
	if o == nil {
		return nil
	}
	if o.Propagation != "" {
		if !slices.Contains(mount.Propagations, o.Propagation) {
			return errdefs.New(errdefs.Invalid, "invalid propagation mode: %s", o.Propagation)
		}
		m.Propagation = o.Propagation
	}
	m.NonRecursive, m.MakeSource = o.NonRecursive, o.CreateMountpoint
	m.RecursiveReadOnly = m.ReadOnly && !o.ReadOnlyNonRecursive && !o.NonRecursive
	if o.ReadOnlyForceRecursive && (!m.ReadOnly || o.ReadOnlyNonRecursive) {
		return errdefs.New(errdefs.Invalid, "ReadOnlyForceRecursive needs ReadOnly, and excludes ReadOnlyNonRecursive")
	}
	return nil
}

func (m *Mount) apiVolume(o *mount.VolumeOptions) error {
	m.RecursiveReadOnly = m.ReadOnly
	if o == nil {
		return nil
	}
	m.NoCopy, m.Make.Labels = o.NoCopy, o.Labels
	if d := o.DriverConfig; d != nil {
		m.Make.Driver, m.Make.Options = d.Name, d.Options
	}
	if o.Subpath == "" {
		return nil
	}
	if m.Volume == "" {
		return errdefs.New(errdefs.Invalid, "must not set Subpath when using anonymous volumes")
	}
	return m.setSubpath(o.Subpath)
}

// setSubpath checks a path within a volume or an image.
func (m *Mount) setSubpath(p string) error {
	if path.IsAbs(p) || !filepath.IsLocal(p) || strings.ContainsAny(p, "\x00\n") {
		return errdefs.New(errdefs.Invalid, "invalid %[2]s subpath %[1]q: it must be a relative path within the %[2]s", p, m.Type)
	}
	m.Subpath = path.Clean(p)
	return nil
}
