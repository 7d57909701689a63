// Package idmap plans how the ids of a user namespace are mapped.
package idmap

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/runtime/program"
)

// User is who the runtime is. Root maps any ids; another its own, and those
// that newuidmap and newgidmap know it was granted.
type User struct {
	Root     bool
	UID, GID int
}

// Own reports whether mappings show one id only, and it is id.
func Own(list []specs.LinuxIDMapping, id int) bool {
	return len(list) == 1 && list[0].Size == 1 && int(list[0].HostID) == id
}

// Steps are the runtime's steps that write the mappings of its child.
func Steps(uids, gids []specs.LinuxIDMapping, u User) []program.Step {
	const uidField, gidField = "linux.uidMappings", "linux.gidMappings"
	steps := []program.Step{write("uid_map", Lines(uids)+"\n", uidField)}
	if !u.Root && !Own(uids, u.UID) {
		steps[0] = helper("newuidmap", uids, uidField)
	}
	if !u.Root && !Own(gids, u.GID) {
		return append(steps, helper("newgidmap", gids, gidField))
	}
	if !u.Root {
		steps = append(steps, write("setgroups", "deny", "who may give up no group may map one (user_namespaces(7))"))
	}
	return append(steps, write("gid_map", Lines(gids)+"\n", gidField))
}

func write(file, text, field string) program.Step {
	return program.Step{Call: "write_proc", Args: []program.Arg{program.String(file), program.String(text)}, Why: field}
}

func helper(name string, list []specs.LinuxIDMapping, field string) program.Step {
	return program.Step{
		Call: "helper", Why: field + "; other ids than the runtime's own are the administrator's to give",
		Args: []program.Arg{program.String(name), program.Strings(strings.Fields(Lines(list)))},
	}
}

// Lines returns mappings as the kernel's uid_map has them.
func Lines(list []specs.LinuxIDMapping) string {
	var lines []string
	for _, m := range list {
		lines = append(lines, strconv.FormatUint(uint64(m.ContainerID), 10)+" "+strconv.FormatUint(uint64(m.HostID), 10)+" "+strconv.FormatUint(uint64(m.Size), 10))
	}
	return strings.Join(lines, "\n")
}
