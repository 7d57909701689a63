package request

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

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
}

// Mounts reads all mounts of a request: -v, --mount and --tmpfs. They come
// sorted by depth, so that a mount never hides one below it.
func Mounts(h *api.HostConfig) ([]Mount, error) {
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
	slices.SortStableFunc(out, func(a, b Mount) int { return depth(a.Target) - depth(b.Target) })
	seen := map[string]bool{}
	for _, m := range out {
		if seen[m.Target] {
			return nil, errdefs.New(errdefs.Invalid, "Duplicate mount point: %s", m.Target)
		}
		seen[m.Target] = true
	}
	return out, nil
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

// ParseBind reads the form source:target[:options] of -v.
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
		return Mount{}, noVolumes("an anonymous volume")
	}
	if err := checkTarget(f[1]); err != nil {
		return Mount{}, errdefs.New(errdefs.Invalid, "invalid volume specification: '%s': %w", s, err)
	}
	if !path.IsAbs(f[0]) {
		if !ident.IsName(f[0]) {
			return Mount{}, errdefs.New(errdefs.Invalid, "%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", f[0])
		}
		return Mount{}, noVolumes("volume " + f[0])
	}
	if err := checkSource(f[0]); err != nil {
		return bad()
	}
	m := Mount{Type: mount.TypeBind, Source: path.Clean(f[0]), Target: path.Clean(f[1]), MakeSource: true, Propagation: mount.PropagationRPrivate}
	if len(f) == 3 {
		m.Mode = f[2]
		if err := m.bindOptions(f[2]); err != nil {
			return Mount{}, err
		}
	}
	return m, nil
}

// bindOptions reads the third field of -v. The labels z and Z are accepted;
// they mean nothing where there is no SELinux.
func (m *Mount) bindOptions(s string) error {
	bad := errdefs.New(errdefs.Invalid, "invalid mode: %s", s)
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
		case "nocopy", "consistent", "cached", "delegated", "default", "bind", "rbind":
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
	return m.checkPropagation()
}

// checkPropagation refuses what the shim's mount namespace cannot give: it is
// a slave of the host's, so nothing that is mounted in it reaches the host.
func (m *Mount) checkPropagation() error {
	if m.Propagation == mount.PropagationShared || m.Propagation == mount.PropagationRShared {
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "mount propagation %s is not there yet", m.Propagation), "use rslave to see the host's later mounts")
	}
	return nil
}

func noVolumes(what string) error {
	return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "%s: volumes are not there yet", what), "give a directory of the host by its absolute path")
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
	switch r.Type {
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
		return Mount{}, noVolumes("volume " + r.Source)
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
	return m.checkPropagation()
}

func (m *Mount) apiTmpfs(o *mount.TmpfsOptions) error {
	m.Tmpfs = []string{"noexec", "nosuid", "nodev"}
	if o == nil {
		return nil
	}
	if o.SizeBytes < 0 || o.Mode > 0o7777 {
		return errdefs.New(errdefs.Invalid, "invalid size or mode of a tmpfs")
	}
	if o.Mode != 0 {
		m.Tmpfs = append(m.Tmpfs, "mode="+strconv.FormatUint(uint64(o.Mode), 8))
	}
	if o.SizeBytes > 0 {
		m.Tmpfs = append(m.Tmpfs, "size="+strconv.FormatInt(o.SizeBytes, 10))
	}
	for _, opt := range o.Options {
		if err := m.tmpfsOption(strings.Join(opt, "=")); err != nil {
			return err
		}
	}
	return nil
}

func parseTmpfs(target, options string) (Mount, error) {
	if err := checkTarget(target); err != nil {
		return Mount{}, err
	}
	m := Mount{Type: mount.TypeTmpfs, Target: path.Clean(target), Mode: options, Tmpfs: []string{"noexec", "nosuid", "nodev"}}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		if err := m.tmpfsOption(o); err != nil {
			return Mount{}, err
		}
	}
	return m, nil
}

// tmpfsOption adds one option; a flag replaces its opposite.
func (m *Mount) tmpfsOption(o string) error {
	bad := errdefs.New(errdefs.Invalid, "invalid tmpfs option %q", o)
	opposite := map[string]string{
		"noexec": "exec", "exec": "noexec", "nosuid": "suid", "suid": "nosuid", "nodev": "dev", "dev": "nodev",
		"ro": "rw", "rw": "ro", "sync": "async", "async": "sync", "noatime": "atime", "atime": "noatime",
		"nodiratime": "diratime", "diratime": "nodiratime", "relatime": "norelatime", "norelatime": "relatime", "strictatime": "nostrictatime",
	}
	k, v, hasValue := strings.Cut(o, "=")
	if anti, ok := opposite[o]; ok {
		m.Tmpfs = slices.DeleteFunc(m.Tmpfs, func(x string) bool { return x == anti || x == o })
		m.ReadOnly = o == "ro" || m.ReadOnly && o != "rw"
		m.Tmpfs = append(m.Tmpfs, o)
		return nil
	}
	if !hasValue {
		return bad
	}
	switch k {
	case "size":
		if pc, ok := strings.CutSuffix(v, "%"); ok {
			if n, err := strconv.ParseUint(pc, 10, 7); err != nil || n > 100 {
				return bad
			}
		} else if n, err := units.RAMInBytes(v); err != nil || n < 0 {
			return bad
		} else {
			v = strconv.FormatInt(n, 10)
		}
	case "mode":
		if n, err := strconv.ParseUint(v, 8, 16); err != nil || n > 0o7777 {
			return bad
		}
	case "uid", "gid":
		if n, err := strconv.ParseUint(v, 10, 32); err != nil || n > 1<<31-1 {
			return bad
		}
	case "nr_inodes", "nr_blocks":
		if n, err := units.RAMInBytes(v); err != nil || n < 0 {
			return bad
		}
	default:
		return bad
	}
	m.Tmpfs = slices.DeleteFunc(m.Tmpfs, func(x string) bool { return strings.HasPrefix(x, k+"=") })
	m.Tmpfs = append(m.Tmpfs, k+"="+v)
	return nil
}
