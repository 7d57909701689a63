// Package mountopt reads the options of a mount, in the words of mount(8) and
// of the OCI runtime specification.
package mountopt

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Options is what the options of one mount ask for.
type Options struct {
	Bind, Recursive  bool
	Set, Clear       uint64 // MOUNT_ATTR_*
	RecSet, RecClear uint64 // the same, for the whole tree
	Propagation      uint64 // MS_SHARED, …
	PropagationRec   bool
	IDMap, IDMapRec  bool
	CopyUp, Readonly bool
	// Named tells that an attribute of the mount itself is named at all, and
	// NamedAtime that one is of those that say how access times are kept.
	Named, NamedAtime bool
	// Classic asks for what only mount(2) can be told.
	Classic bool
	Data    []string // what the file system itself is told
}

// mostOption is how long an option for fsconfig(2) may be.
const mostOption = 255

// Flags returns the options as mount(2) takes them: its flags, and the rest.
func (o *Options) Flags() (flags uint64, data string) {
	set := o.Set | o.RecSet
	for _, f := range []struct{ attr, flag uint64 }{
		{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
		{unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
		{unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME},
		{unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
		{unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, unix.MS_NOSYMFOLLOW},
	} {
		if set&f.attr != 0 {
			flags |= f.flag
		}
	}
	var rest []string
	for _, word := range o.Data {
		switch word {
		case "sync":
			flags |= unix.MS_SYNCHRONOUS
		case "dirsync":
			flags |= unix.MS_DIRSYNC
		case "lazytime":
			flags |= unix.MS_LAZYTIME
		case "mand":
			flags |= unix.MS_MANDLOCK
		default:
			if key, value, ok := strings.Cut(word, "="); ok && strings.Contains(value, ",") && value[0] != '"' {
				word = key + `="` + value + `"`
			}
			rest = append(rest, word)
		}
	}
	return flags, strings.Join(rest, ",")
}

// OfBind returns what is to be set and cleared on a bind mount. Without any
// attribute it is as its source. With one it has what is named and nothing
// else, but for the access times, which need naming themselves: so mount(8) has
// it, and so has runc. Where locked is set, the source's attributes may be
// locked, and only what cannot be is cleared unnamed.
func (o *Options) OfBind(locked bool) (set, clear uint64) {
	const (
		lockable = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
		atime    = unix.MOUNT_ATTR__ATIME | unix.MOUNT_ATTR_NODIRATIME
	)
	if !o.Named {
		return 0, 0
	}
	set, clear = o.Set, o.Clear&^atime|unix.MOUNT_ATTR_NOSYMFOLLOW
	if !locked {
		clear |= lockable
	}
	if clear &^= set; o.NamedAtime {
		clear |= unix.MOUNT_ATTR__ATIME | unix.MOUNT_ATTR_NODIRATIME&^set
	}
	return set, clear
}

// namesAtime reports whether a word says how access times are kept. Those that
// only take something back do not: the source's way stays.
func namesAtime(word string) bool {
	return slices.Contains([]string{"noatime", "relatime", "strictatime", "nodiratime"}, word)
}

// change is the effect of one word.
type change struct{ set, clear uint64 }

// attribute returns what an option does to a mount's attributes.
func attribute(word string) (change, bool) {
	const atime = unix.MOUNT_ATTR__ATIME
	switch word {
	case "ro":
		return change{set: unix.MOUNT_ATTR_RDONLY}, true
	case "rw":
		return change{clear: unix.MOUNT_ATTR_RDONLY}, true
	case "nosuid":
		return change{set: unix.MOUNT_ATTR_NOSUID}, true
	case "suid":
		return change{clear: unix.MOUNT_ATTR_NOSUID}, true
	case "nodev":
		return change{set: unix.MOUNT_ATTR_NODEV}, true
	case "dev":
		return change{clear: unix.MOUNT_ATTR_NODEV}, true
	case "noexec":
		return change{set: unix.MOUNT_ATTR_NOEXEC}, true
	case "exec":
		return change{clear: unix.MOUNT_ATTR_NOEXEC}, true
	case "nodiratime":
		return change{set: unix.MOUNT_ATTR_NODIRATIME}, true
	case "diratime":
		return change{clear: unix.MOUNT_ATTR_NODIRATIME}, true
	case "noatime":
		return change{set: unix.MOUNT_ATTR_NOATIME, clear: atime}, true
	case "strictatime":
		return change{set: unix.MOUNT_ATTR_STRICTATIME, clear: atime}, true
	case "relatime", "atime", "norelatime", "nostrictatime":
		return change{clear: atime}, true
	case "nosymfollow":
		return change{set: unix.MOUNT_ATTR_NOSYMFOLLOW}, true
	case "symfollow":
		return change{clear: unix.MOUNT_ATTR_NOSYMFOLLOW}, true
	}
	return change{}, false
}

// Propagation returns the propagation that a word stands for.
func Propagation(word string) (flag uint64, recursive, ok bool) {
	recursive = strings.HasPrefix(word, "r")
	switch word {
	case "private", "rprivate":
		return unix.MS_PRIVATE, recursive, true
	case "shared":
		return unix.MS_SHARED, false, true
	case "rshared":
		return unix.MS_SHARED, true, true
	case "slave", "rslave":
		return unix.MS_SLAVE, recursive, true
	case "unbindable", "runbindable":
		return unix.MS_UNBINDABLE, recursive, true
	}
	return 0, false, false
}

// apply adds a change; a later word overrides an earlier one.
func apply(set, clear *uint64, c change) {
	*set = *set&^c.clear | c.set
	*clear = *clear&^c.set | c.clear
}

// Parse reads the options of the i-th mount.
func Parse(i int, m *specs.Mount) (Options, error) {
	var o Options
	o.Bind = m.Type == "bind"
	var own []string // of the file system, and so nothing that a bind mount could change
	for _, word := range m.Options {
		if c, ok := attribute(word); ok {
			apply(&o.Set, &o.Clear, c)
			o.Named, o.NamedAtime = true, o.NamedAtime || namesAtime(word)
			continue
		}
		if c, ok := attribute(strings.TrimPrefix(word, "r")); ok && strings.HasPrefix(word, "r") {
			apply(&o.RecSet, &o.RecClear, c)
			continue
		}
		if flag, rec, ok := Propagation(word); ok {
			o.Propagation, o.PropagationRec = flag, rec
			continue
		}
		switch word {
		case "bind":
			o.Bind = true
		case "rbind":
			o.Bind, o.Recursive = true, true
		case "defaults", "async", "nomand", "loud", "silent", "nolazytime", "noiversion", "remount", "":
		case "sync", "dirsync", "lazytime", "mand":
			own = append(own, word)
		case "iversion":
			o.Classic = true
		case "idmap":
			o.IDMap = true
		case "ridmap":
			o.IDMap, o.IDMapRec = true, true
		case "tmpcopyup":
			o.CopyUp = true
		default:
			o.Data = append(o.Data, splitData(word)...)
		}
	}
	if !o.Bind {
		o.Data = append(own, o.Data...)
	}
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		o.IDMap = true
	}
	o.Readonly = (o.Set|o.RecSet)&unix.MOUNT_ATTR_RDONLY != 0
	switch {
	case o.CopyUp && (o.Bind || m.Type != "tmpfs"):
		return o, errdefs.New(errdefs.Invalid, "mounts[%d]: tmpcopyup is for tmpfs only", i)
	case o.IDMap && !o.Bind:
		return o, errdefs.New(errdefs.Invalid, "mounts[%d]: id-mapped mounts are only supported for bind-mounts", i)
	case o.Bind && len(o.Data) > 0:
		return o, errdefs.New(errdefs.Invalid, "mounts[%d]: bind mounts cannot have any filesystem-specific options applied, and %q is one", i, o.Data[0])
	}
	o.Classic = o.Classic && !o.Bind || slices.ContainsFunc(o.Data, func(s string) bool {
		key, value, _ := strings.Cut(s, "=")
		return len(key) > mostOption || len(value) > mostOption
	})
	return o, nil
}

// splitData splits at commas that are not in quotes: context="a,b" is one.
func splitData(s string) []string {
	quoted := false
	return strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	})
}
