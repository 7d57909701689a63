package account

import (
	"bytes"
	"iter"
	"slices"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// Identity is who a process runs as.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, with GID first, as Docker sets them
	Home     string   // an absolute path; "/" if unknown
	Name     string   // the user's name, if it is known
}

// Files are the contents of a container's /etc/passwd and /etc/group; nil
// where there is none.
type Files struct {
	Passwd, Group []byte
}

// NeedsFiles reports whether u can only be resolved with files: it holds a
// name. All others resolve without, but may gain groups and a home from them.
func (u User) NeedsFiles() bool {
	return u.user.set && !u.user.numeric || u.group.set && !u.group.numeric
}

// Resolve finds who u is, as Docker does: a number is always an id; a user
// without a group has the group of its passwd line and the groups that list
// its name; one with a group has only that; one that has no line has group 0.
// extra are further supplementary groups.
func (u User) Resolve(f Files, extra []Group) (Identity, error) {
	id := Identity{Home: "/"}
	if u.user.numeric {
		id.UID = u.user.id
	}
	found := false
	for fields := range lines(f.Passwd, 7) {
		uid, ok1 := parseID(fields[2])
		gid, ok2 := parseID(fields[3])
		if !ok1 || !ok2 {
			continue
		}
		match := uid == id.UID
		if u.user.set && !u.user.numeric {
			match = fields[0] == u.user.name
		}
		if match {
			id.UID, id.GID, id.Name = uid, gid, fields[0]
			if h := fields[5]; strings.HasPrefix(h, "/") && !strings.ContainsFunc(h, isControl) {
				id.Home = h
			}
			found = true
			break
		}
	}
	if !found && u.user.set && !u.user.numeric {
		return Identity{}, errdefs.New(errdefs.Invalid, "unable to find user %s: no matching entries in passwd file", u.user.name)
	}
	var err error
	var more []uint32
	switch {
	case u.group.set:
		if id.GID, err = lookupGroup(f.Group, u.group); err != nil {
			return Identity{}, err
		}
	case id.Name != "":
		more = groupsOf(f.Group, id.Name)
	}
	for _, g := range extra {
		gid, err := lookupGroup(f.Group, g.g)
		if err != nil {
			return Identity{}, err
		}
		more = append(more, gid)
	}
	id.Groups = []uint32{id.GID}
	for _, g := range more {
		if !slices.Contains(id.Groups, g) {
			id.Groups = append(id.Groups, g)
		}
	}
	return id, nil
}

func lookupGroup(file []byte, p part) (uint32, error) {
	if p.numeric {
		return p.id, nil
	}
	for fields := range lines(file, 3) {
		if gid, ok := parseID(fields[2]); ok && fields[0] == p.name {
			return gid, nil
		}
	}
	return 0, errdefs.New(errdefs.Invalid, "unable to find group %s: no matching entries in group file", p.name)
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

func groupsOf(file []byte, user string) []uint32 {
	var gids []uint32
	for fields := range lines(file, 4) {
		if gid, ok := parseID(fields[2]); ok && len(gids) < maxGroups && slices.Contains(strings.Split(fields[3], ","), user) {
			gids = append(gids, gid)
		}
	}
	return gids
}

// lines yields the fields of every line that has at least n.
func lines(file []byte, n int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(file) {
			s := strings.TrimSpace(string(line))
			if s == "" || s[0] == '#' {
				continue
			}
			if fields := strings.Split(s, ":"); len(fields) >= n && !yield(fields) {
				return
			}
		}
	}
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= MaxID
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
