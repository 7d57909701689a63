package request

import (
	"encoding/csv"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/errdefs"
)

func invalid(format string, args ...any) error { return errdefs.New(errdefs.Invalid, format, args...) }

// stream checks a name given to --attach.
func stream(s string) (string, error) {
	switch low := strings.ToLower(s); low {
	case "stdin", "stdout", "stderr":
		return low, nil
	}
	return "", invalid("want stdin, stdout or stderr")
}

// environment completes a variable that is given by name alone from lade's own
// environment. One that is not set there is passed on by name: the engine then
// takes it away from what the image sets.
func environment(s string) (string, error) {
	name, _, given := strings.Cut(s, "=")
	if name == "" {
		return "", invalid("the variable has no name")
	}
	if given {
		return s, nil
	}
	if v, ok := os.LookupEnv(name); ok {
		return name + "=" + v, nil
	}
	return s, nil
}

// label checks a label: a key, and perhaps a value.
func label(s string) (string, error) {
	if key, _, _ := strings.Cut(s, "="); strings.TrimSpace(key) == "" {
		return "", invalid("the label has no name")
	}
	return s, nil
}

func pair(s string) (key, val string, err error) {
	key, val, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", invalid("want key=value")
	}
	return key, val, nil
}

// signalName checks a signal as far as the client can: some name or number.
func signalName(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t/") {
		return "", invalid("want a signal such as SIGTERM or 15")
	}
	return s, nil
}

// restartPolicy parses no, always, unless-stopped and on-failure[:N].
func restartPolicy(s string) (container.RestartPolicy, error) {
	name, count, counted := strings.Cut(s, ":")
	p := container.RestartPolicy{Name: container.RestartPolicyMode(name)}
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil {
			return p, invalid("maximum retry count must be an integer")
		}
		p.MaximumRetryCount = n
	}
	if err := container.ValidateRestartPolicy(p); err != nil {
		return p, err
	}
	return p, nil
}

// byteSize parses a size such as 64m: powers of 1024, as Docker's.
func byteSize(s string) (int64, error) { return units.RAMInBytes(s) }

func bytesOrUnlimited(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	return byteSize(s)
}

// nanoCPUs parses a decimal number of processors without going through binary
// fractions: 0.1 is exactly 100,000,000.
func nanoCPUs(s string) (int64, error) {
	whole, frac, _ := strings.Cut(s, ".")
	if len(frac) > 9 {
		if strings.Trim(frac[9:], "0") != "" {
			return 0, invalid("too precise: at most nine digits after the point")
		}
		frac = frac[:9]
	}
	n, err := strconv.ParseUint(whole+frac+strings.Repeat("0", 9-len(frac)), 10, 63)
	if err != nil {
		return 0, invalid("want a number such as 1.5")
	}
	return int64(n), nil
}

// volume checks -v: PATH (anonymous), NAME:PATH or SOURCE:PATH, with options
// after another colon. A source that begins with a dot is made absolute here:
// the engine does not know our directory.
func volume(s string) (string, error) {
	parts := strings.Split(s, ":")
	target := parts[0]
	if len(parts) > 1 {
		target = parts[1]
	}
	switch {
	case len(parts) > 3:
		return "", invalid("too many colons: want [SOURCE:]PATH[:OPTIONS]")
	case parts[0] == "" || target == "":
		return "", invalid("an empty path: want [SOURCE:]PATH[:OPTIONS]")
	case !path.IsAbs(target):
		return "", invalid("the path in the container, %q, is not absolute", target)
	case path.Clean(target) == "/":
		return "", invalid("the destination cannot be '/'")
	}
	if len(parts) > 1 && strings.HasPrefix(parts[0], ".") {
		abs, err := filepath.Abs(parts[0])
		if err != nil {
			return "", fmt.Errorf("make %s absolute: %w", parts[0], err)
		}
		parts[0] = abs
	}
	return strings.Join(parts, ":"), nil
}

// device parses HOST[:CONTAINER][:PERMISSIONS].
func device(s string) (container.DeviceMapping, error) {
	d := container.DeviceMapping{CgroupPermissions: "rwm"}
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return d, invalid("too many colons: want HOST[:CONTAINER][:rwm]")
	}
	d.PathOnHost, d.PathInContainer = parts[0], parts[0]
	switch {
	case len(parts) == 3:
		d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
	case len(parts) == 2 && permissions(parts[1]):
		d.CgroupPermissions = parts[1]
	case len(parts) == 2:
		d.PathInContainer = parts[1]
	}
	switch {
	case !path.IsAbs(d.PathOnHost):
		return d, invalid("%q is not an absolute path", d.PathOnHost)
	case !path.IsAbs(d.PathInContainer):
		return d, invalid("%q is not an absolute path", d.PathInContainer)
	case !permissions(d.CgroupPermissions):
		return d, invalid("permissions %q: want some of r, w and m", d.CgroupPermissions)
	}
	return d, nil
}

// addDevice parses --device: a path of the host, or a CDI device's name, of
// which all are one request.
func (f *Flags) addDevice(s string) error {
	if !cdiName(s) {
		return appendTo(&f.host.Devices, device)(s)
	}
	for i := range f.host.DeviceRequests {
		if r := &f.host.DeviceRequests[i]; r.Driver == "cdi" && r.Capabilities == nil {
			r.DeviceIDs = append(r.DeviceIDs, s)
			return nil
		}
	}
	f.host.DeviceRequests = append(f.host.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{s}})
	return nil
}

// cdiName reports whether a device is meant as vendor.com/class=name.
func cdiName(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && vendor != "" && class != "" && name != "" && !strings.ContainsAny(kind, ": ")
}

func permissions(s string) bool {
	seen := map[rune]bool{}
	for _, c := range s {
		if !strings.ContainsRune("rwm", c) || seen[c] {
			return false
		}
		seen[c] = true
	}
	return s != ""
}

// deviceRule checks a rule such as "c 1:3 mr".
func deviceRule(s string) (string, error) {
	f := strings.Fields(s)
	if len(f) == 3 && len(f[0]) == 1 && strings.Contains("abc", f[0]) && strings.Contains(f[1], ":") && permissions(f[2]) {
		return s, nil
	}
	return "", invalid("want TYPE MAJOR:MINOR PERMISSIONS, such as 'c 1:3 mr'")
}

// extraHost parses name:address or name=address; host-gateway is the engine's
// word for the host itself.
func extraHost(s string) (string, error) {
	name, addr, ok := strings.Cut(s, "=")
	if !ok {
		name, addr, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" {
		return "", invalid("want NAME:ADDRESS")
	}
	if addr != "host-gateway" {
		ip, err := address(strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]"))
		if err != nil {
			return "", err
		}
		addr = ip.String()
	}
	return name + ":" + addr, nil
}

func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, invalid("%q is no IP address", s)
	}
	return a, nil
}

// addUlimit adds a limit; the last one given for a name counts.
func (f *Flags) addUlimit(s string) error {
	u, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	for i, have := range f.host.Ulimits {
		if have.Name == u.Name {
			f.host.Ulimits[i] = u
			return nil
		}
	}
	f.host.Ulimits = append(f.host.Ulimits, u)
	return nil
}

// addTmpfs parses PATH[:OPTIONS].
func (f *Flags) addTmpfs(s string) error {
	target, opts, _ := strings.Cut(s, ":")
	if !path.IsAbs(target) {
		return invalid("%q is not an absolute path", target)
	}
	if f.host.Tmpfs == nil {
		f.host.Tmpfs = map[string]string{}
	}
	f.host.Tmpfs[target] = opts
	return nil
}

// parseMount parses --mount: comma-separated key=value, quoted as in CSV.
func parseMount(s string) (mount.Mount, error) {
	m := mount.Mount{Type: mount.TypeVolume}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return m, invalid("%w", err)
	}
	for _, field := range fields {
		key, val, given := strings.Cut(field, "=")
		key = strings.ToLower(key)
		if !given && key != "readonly" && key != "ro" && key != "volume-nocopy" && key != "bind-nonrecursive" && key != "bind-create-src" {
			return m, invalid("field %q: want key=value", field)
		}
		if !given {
			val = "true"
		}
		if err := setMount(&m, key, val); err != nil {
			return m, err
		}
	}
	return m, checkMount(m)
}

func setMount(m *mount.Mount, key, val string) (err error) {
	switch key {
	case "type":
		m.Type = mount.Type(strings.ToLower(val))
	case "source", "src":
		m.Source = val
		if strings.HasPrefix(val, "."+string(filepath.Separator)) || val == "." {
			m.Source, err = filepath.Abs(val)
		}
	case "target", "dst", "destination":
		m.Target = val
	case "readonly", "ro":
		m.ReadOnly, err = boolean(key, val)
	case "consistency":
		m.Consistency = mount.Consistency(strings.ToLower(val))
	default:
		kind, option, _ := strings.Cut(key, "-")
		switch kind {
		case "bind":
			return setBind(m, option, val)
		case "volume":
			return setVolume(m, option, val)
		case "tmpfs":
			return setTmpfs(m, option, val)
		case "image":
			if option == "subpath" {
				m.ImageOptions = &mount.ImageOptions{Subpath: val}
				return nil
			}
		}
		return invalid("unknown option %q", key)
	}
	return err
}

func setBind(m *mount.Mount, option, val string) (err error) {
	if m.BindOptions == nil {
		m.BindOptions = &mount.BindOptions{}
	}
	switch option {
	case "propagation":
		m.BindOptions.Propagation = mount.Propagation(strings.ToLower(val))
	case "nonrecursive":
		m.BindOptions.NonRecursive, err = boolean("bind-nonrecursive", val)
	case "create-src":
		m.BindOptions.CreateMountpoint, err = boolean("bind-create-src", val)
	case "recursive":
		switch val {
		case "enabled":
		case "disabled":
			m.BindOptions.NonRecursive = true
		case "writable":
			m.BindOptions.ReadOnlyNonRecursive = true
		case "readonly":
			m.BindOptions.ReadOnlyForceRecursive = true
		default:
			return invalid("bind-recursive=%s: want enabled, disabled, writable or readonly", val)
		}
	default:
		return invalid("unknown option %q", "bind-"+option)
	}
	return err
}

func setVolume(m *mount.Mount, option, val string) (err error) {
	if m.VolumeOptions == nil {
		m.VolumeOptions = &mount.VolumeOptions{}
	}
	o := m.VolumeOptions
	driver := func() *mount.Driver {
		if o.DriverConfig == nil {
			o.DriverConfig = &mount.Driver{}
		}
		return o.DriverConfig
	}
	k, v, _ := strings.Cut(val, "=")
	switch option {
	case "nocopy":
		o.NoCopy, err = boolean("volume-nocopy", val)
	case "subpath":
		o.Subpath = val
	case "driver":
		driver().Name = val
	case "label":
		o.Labels = put(o.Labels, k, v)
	case "opt":
		driver().Options = put(driver().Options, k, v)
	default:
		return invalid("unknown option %q", "volume-"+option)
	}
	return err
}

func put(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[k] = v
	return m
}

func setTmpfs(m *mount.Mount, option, val string) error {
	if m.TmpfsOptions == nil {
		m.TmpfsOptions = &mount.TmpfsOptions{}
	}
	switch option {
	case "size":
		n, err := units.RAMInBytes(val)
		if err != nil {
			return invalid("tmpfs-size=%s: %w", val, err)
		}
		m.TmpfsOptions.SizeBytes = n
	case "mode":
		n, err := strconv.ParseUint(val, 8, 32)
		if err != nil {
			return invalid("tmpfs-mode=%s: want octal digits", val)
		}
		m.TmpfsOptions.Mode = os.FileMode(n)
	default:
		return invalid("unknown option %q", "tmpfs-"+option)
	}
	return nil
}

func boolean(key, val string) (bool, error) {
	b, err := strconv.ParseBool(val)
	if err != nil {
		return false, invalid("%s=%s: want true or false", key, val)
	}
	return b, nil
}

// checkMount finds options that do not belong to the mount's type: ignored,
// they would be a surprise.
func checkMount(m mount.Mount) error {
	switch m.Type {
	case mount.TypeBind, mount.TypeVolume, mount.TypeTmpfs, mount.TypeImage:
	default:
		return invalid("type %q: want bind, volume, tmpfs or image", m.Type)
	}
	switch {
	case m.Target == "":
		return invalid("a target is required: target=PATH")
	case m.Type == mount.TypeBind && m.Source == "":
		return invalid("a bind mount needs a source: source=PATH")
	case m.Type == mount.TypeImage && m.Source == "":
		return invalid("an image mount needs a source: source=IMAGE")
	case m.Type == mount.TypeTmpfs && m.Source != "":
		return invalid("a tmpfs has no source")
	case m.BindOptions != nil && m.Type != mount.TypeBind:
		return invalid("bind-… does not go with type %q", m.Type)
	case m.VolumeOptions != nil && m.Type != mount.TypeVolume:
		return invalid("volume-… does not go with type %q", m.Type)
	case m.TmpfsOptions != nil && m.Type != mount.TypeTmpfs:
		return invalid("tmpfs-… does not go with type %q", m.Type)
	case m.ImageOptions != nil && m.Type != mount.TypeImage:
		return invalid("image-… does not go with type %q", m.Type)
	}
	return nil
}
