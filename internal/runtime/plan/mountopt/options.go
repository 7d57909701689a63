// Package mountopt reads the options of a mount, in the words of mount(8) and
// of the OCI runtime specification.
package mountopt

import (
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
	Data             []string // what the file system itself is told
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
	for _, word := range m.Options {
		if c, ok := attribute(word); ok {
			apply(&o.Set, &o.Clear, c)
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
		case "defaults", "async", "nomand", "loud", "nolazytime", "noiversion", "remount", "":
		case "sync", "dirsync", "lazytime", "mand", "iversion", "silent":
			o.Data = append(o.Data, word)
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
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		o.IDMap = true
	}
	o.Readonly = (o.Set|o.RecSet)&unix.MOUNT_ATTR_RDONLY != 0
	switch {
	case o.CopyUp && (o.Bind || m.Type != "tmpfs"):
		return o, errdefs.New(errdefs.Invalid, "mounts[%d]: tmpcopyup is for tmpfs only", i)
	case o.IDMap && !o.Bind:
		return o, errdefs.New(errdefs.Invalid, "mounts[%d]: id-mapped mounts are only supported for bind-mounts", i)
	case o.Bind:
		o.Data = nil // the file system is mounted already
	}
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
