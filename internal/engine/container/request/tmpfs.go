package request

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/errdefs"
)

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
