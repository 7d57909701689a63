package step

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/program"
)

// PathOnly opens a place, and nothing of what is there.
const PathOnly = unix.O_PATH | unix.O_CLOEXEC

// InRoot resolves path as the container would, and nowhere else.
const InRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Words is a structure of 64-bit words.
func Words(v ...uint64) []byte {
	b := make([]byte, 0, 8*len(v))
	for _, w := range v {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// Names returns the names of the bits of n.
func Names(n uint64, flags *program.FlagNames) string {
	a := program.Flags(n, flags)
	return a.Text()
}

// Openat2 opens a path below dir.
func Openat2(dir program.Slot, path string, flags, resolve uint64, yield program.Slot) program.Step {
	return program.Step{
		Call: "openat2", Yield: yield,
		Args: []program.Arg{
			program.FD(dir), program.String(relative(path)),
			program.Struct(Words(flags, 0, resolve), func() string {
				return Names(flags, OpenFlags) + ", " + Names(resolve, ResolveFlags)
			}),
			program.Int(24),
		},
	}
}

// relative makes an absolute path one below a descriptor.
func relative(path string) string {
	if p := strings.TrimLeft(path, "/"); p != "" {
		return p
	}
	return "."
}

// Close closes the descriptor in a slot.
func Close(s program.Slot) program.Step {
	return program.Step{Call: "close", Args: []program.Arg{program.FD(s)}}
}

// Attach puts the detached mount in slot mnt on the place in slot place.
func Attach(mnt, place program.Slot) program.Step {
	return program.Step{Call: "move_mount", Args: []program.Arg{
		program.FD(mnt), program.String(""), program.FD(place), program.String(""),
		program.Flags(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, MoveFlags),
	}}
}

// CloneTree takes a copy of the mount at a path or descriptor, detached.
func CloneTree(dir program.Arg, path string, recursive bool, yield program.Slot) program.Step {
	flags := uint64(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return program.Step{Call: "open_tree", Yield: yield, Args: []program.Arg{dir, program.String(path), program.Flags(flags, TreeFlags)}}
}

// SetAttr changes the attributes of the mount behind a descriptor.
func SetAttr(mnt program.Slot, set, clear, propagation uint64, recursive bool) program.Step {
	flags := uint64(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return program.Step{Call: "mount_setattr", Args: []program.Arg{
		program.FD(mnt), program.String(""), program.Flags(flags, AtFlags),
		program.Struct(Words(set, clear, propagation, 0), func() string {
			var parts []string
			if set != 0 {
				parts = append(parts, "set "+Names(set, AttrFlags))
			}
			if clear != 0 {
				parts = append(parts, "clear "+Names(clear, AttrFlags))
			}
			if propagation != 0 {
				parts = append(parts, Names(propagation, MountFlags))
			}
			return strings.Join(parts, ", ")
		}),
		program.Int(32),
	}}
}

// fsconfig commands.
const (
	fsSetFlag   = 0
	fsSetString = 1
	fsCreate    = 6
)

// NewFS makes a file system of a kind: its mount, not attached yet, is in slot
// mnt.
func NewFS(kind, source string, options []string, attr uint64, mnt program.Slot) []program.Step {
	const fs program.Slot = "fs"
	steps := make([]program.Step, 0, 5+len(options))
	steps = append(steps, program.Step{Call: "fsopen", Yield: fs, Args: []program.Arg{program.String(kind), program.Named(unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC")}})
	set := func(key, value string) {
		steps = append(steps, program.Step{Call: "fsconfig", Args: []program.Arg{
			program.FD(fs), program.Named(fsSetString, "FSCONFIG_SET_STRING"), program.String(key), program.String(value), program.Int(0),
		}})
	}
	if source != "" {
		set("source", source)
	}
	for _, o := range options {
		if key, value, found := strings.Cut(o, "="); found {
			set(key, value)
			continue
		}
		steps = append(steps, program.Step{Call: "fsconfig", Args: []program.Arg{
			program.FD(fs), program.Named(fsSetFlag, "FSCONFIG_SET_FLAG"), program.String(o), program.Int(0), program.Int(0),
		}})
	}
	return append(steps,
		program.Step{Call: "fsconfig", Args: []program.Arg{program.FD(fs), program.Named(fsCreate, "FSCONFIG_CMD_CREATE"), program.Int(0), program.Int(0), program.Int(0)}},
		program.Step{Call: "fsmount", Yield: mnt, Args: []program.Arg{program.FD(fs), program.Named(unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"), program.Flags(attr, AttrFlags)}},
		Close(fs),
	)
}

// Mount is the classic call on paths, for what is not in a container's hands.
func Mount(source, target string, flags uint64) program.Step {
	src := program.Int(0)
	if source != "" {
		src = program.String(source)
	}
	return program.Step{Call: "mount", Args: []program.Arg{src, program.String(target), program.Int(0), program.Flags(flags, MountFlags), program.Int(0)}}
}

// MountHere mounts a file system on the directory that the process is in.
func MountHere(kind, source string, flags uint64, data string) program.Step {
	return program.Step{Call: "mount", Args: []program.Arg{
		program.String(source), program.String("."), program.String(kind), program.Flags(flags, MountFlags), program.String(data),
	}}
}

// Prctl is prctl(2) with the operation op, called name.
func Prctl(name string, op uint64, args ...program.Arg) program.Step {
	all := append([]program.Arg{program.Named(op, name)}, args...)
	for len(all) < 5 {
		all = append(all, program.Int(0))
	}
	return program.Step{Call: "prctl", Args: all}
}

// Say gives a step the whole message for people when it fails.
func Say(s program.Step, text string) program.Step {
	s.Say = text
	return s
}

// Sayf is Say with a format.
func Sayf(s program.Step, format string, args ...any) program.Step {
	return Say(s, fmt.Sprintf(format, args...))
}

// Field names an element of a list in the configuration.
func Field(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// Why gives a step its reason.
func Why(s program.Step, text string) program.Step {
	s.Why = text
	return s
}

// Tolerate lists the errors of a step that do not end the program.
func Tolerate(s program.Step, errnos ...syscall.Errno) program.Step {
	s.Tolerate = errnos
	return s
}
