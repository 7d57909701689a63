package step

import (
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/program"
)

// MakePath makes a directory, or a file in its directory, below root, and yields
// it in slot place.
func MakePath(root program.Slot, dest string, dir bool, resolve uint64, place program.Slot) []program.Step {
	const up program.Slot = "up"
	parts := strings.Split(strings.Trim(path.Clean(dest), "/"), "/")
	var steps []program.Step
	for k, name := range parts {
		last := k == len(parts)-1
		parent := root
		if k > 0 {
			parent = up
			steps = append(steps, Openat2(root, path.Join(parts[:k]...), PathOnly|unix.O_DIRECTORY, resolve, up))
		}
		make := program.Step{Call: "mkdirat", Args: []program.Arg{program.FD(parent), program.String(name), program.Octal(0o755)}, Tolerate: []syscall.Errno{syscall.EEXIST}}
		if last && !dir {
			make = program.Step{Call: "mknodat", Args: []program.Arg{program.FD(parent), program.String(name), program.Octal(unix.S_IFREG | 0o644), program.Int(0)}, Tolerate: []syscall.Errno{syscall.EEXIST}}
		}
		make.Say = "make " + dest + " in the root"
		steps = append(steps, make)
		if k > 0 {
			steps = append(steps, Close(up))
		}
	}
	return append(steps, Say(Openat2(root, dest, PathOnly, resolve, place), "find "+dest+" in the root"))
}
