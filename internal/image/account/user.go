// Package account says who a process is: it reads the user strings of images
// and requests ("app", "1000:1000", "app:staff"), and resolves them with the
// bytes of a container's own /etc/passwd and /etc/group.
//
// Both come from strangers. A string that could be read in two ways is
// refused, as are numbers outside of what the kernel and its callers hold
// (CVE-2024-40635: a number above the range became root). The files are data:
// a line that is not well formed is skipped, nothing else happens. The package
// does no I/O.
package account

import (
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// MaxID is the highest user or group id that a request may name. The kernel
// holds 32 bits, but many callers hold an int32, and 2^32-1 means "no change".
const MaxID = 1<<31 - 1

// User is a parsed user string.
type User struct {
	user, group part
}

type part struct {
	set     bool
	numeric bool
	id      uint32
	name    string
}

// ParseUser reads a user string: name or uid, optionally followed by a colon
// and a group's name or gid. The empty string is root.
func ParseUser(s string) (User, error) {
	if s == "" {
		return User{}, nil
	}
	left, right, colon := strings.Cut(s, ":")
	var u User
	var err error
	if u.user, err = parsePart(left); err != nil {
		return User{}, errdefs.New(errdefs.Invalid, "invalid user %q: %w", s, err)
	}
	if colon {
		if u.group, err = parsePart(right); err != nil {
			return User{}, errdefs.New(errdefs.Invalid, "invalid user %q: %w", s, err)
		}
	}
	return u, nil
}

// Group is one group by name or id, as --group-add takes it.
type Group struct{ g part }

// ParseGroup reads a group's name or gid.
func ParseGroup(s string) (Group, error) {
	p, err := parsePart(s)
	if err != nil {
		return Group{}, errdefs.New(errdefs.Invalid, "invalid group %q: %w", s, err)
	}
	return Group{p}, nil
}

// parsePart reads a decimal number in range or a name. What is neither, or
// could be taken for a number by somebody else (0x0, +0, 007), is an error.
func parsePart(s string) (part, error) {
	switch {
	case s == "":
		return part{}, errdefs.New(errdefs.Invalid, "a name or a number is missing")
	case len(s) > 256:
		return part{}, errdefs.New(errdefs.Invalid, "the name is longer than 256 characters")
	case isDecimal(s):
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n > MaxID {
			return part{}, errdefs.New(errdefs.Invalid, "uids and gids must be in range 0-%d", MaxID)
		}
		return part{set: true, numeric: true, id: uint32(n)}, nil
	case looksNumeric(s):
		return part{}, errdefs.New(errdefs.Invalid, "%q is neither a decimal number nor a name", s)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == ':' || c == ',' || c == '/' || i == 0 && (c == '-' || c == '+') {
			return part{}, errdefs.New(errdefs.Invalid, "%q cannot be in a name", c)
		}
	}
	return part{set: true, name: s}, nil
}

// isDecimal reports whether s is a decimal number in its one normal form.
func isDecimal(s string) bool {
	if s == "" || s[0] == '0' && len(s) > 1 {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// looksNumeric reports whether some other parser could take s for a number.
func looksNumeric(s string) bool {
	t := strings.TrimLeft(s, "+-")
	return t == "" || t[0] >= '0' && t[0] <= '9' && strings.Trim(t, "0123456789abcdefABCDEFxXoO_.+-") == ""
}
