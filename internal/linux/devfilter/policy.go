// Package devfilter says which devices the processes of a cgroup may use.
//
// [Parse] turns the rules of a container's configuration into a [Policy]. The
// kernel takes a policy in one of two forms: lines for the files devices.deny
// and devices.allow of a cgroup v1 hierarchy ([Policy.V1]), or an eBPF program
// on a cgroup v2 directory ([Policy.Compile], [Program.Attach]). Both are
// derived from the same value without asking the kernel; only Attach acts.
//
// Rules are taken in order, and a later one overrides an earlier one for the
// devices and the kinds of access that it names. Before the first rule,
// everything is denied. The program keeps to this exactly. The v1 controller
// cannot make an exception from an exception: a policy that needs one is
// refused there, rather than weakened.
package devfilter

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Access is a set of the ways to use a device. The bits are the kernel's.
type Access uint8

// The ways to use a device: BPF_DEVCG_ACC_*.
const (
	Mknod Access = 1 << iota
	Read
	Write

	All = Mknod | Read | Write
)

// String returns the letters that the kernel uses, in its order.
func (a Access) String() string {
	var b strings.Builder
	for _, l := range []struct {
		bit    Access
		letter byte
	}{{Read, 'r'}, {Write, 'w'}, {Mknod, 'm'}} {
		if a&l.bit != 0 {
			b.WriteByte(l.letter)
		}
	}
	return b.String()
}

// Any stands for every major or minor number.
const Any = -1

// Rule allows or denies the use of some devices.
type Rule struct {
	Allow        bool
	Type         byte  // 'b', 'c', or 'a' for both
	Major, Minor int64 // a number, or Any
	Access       Access
}

// String returns the rule as in "allow c 1:3 rwm".
func (r Rule) String() string {
	verb := "deny "
	if r.Allow {
		verb = "allow "
	}
	return verb + r.device()
}

// device returns what follows the verb, which is a line of cgroup v1.
func (r Rule) device() string {
	return fmt.Sprintf("%c %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}

func number(n int64) string {
	if n == Any {
		return "*"
	}
	return strconv.FormatInt(n, 10)
}

// covers reports whether r is about every device that o is about.
func (r Rule) covers(o Rule) bool {
	return (r.Type == 'a' || r.Type == o.Type) &&
		(r.Major == Any || r.Major == o.Major) &&
		(r.Minor == Any || r.Minor == o.Minor)
}

// meets reports whether there is a device that r and o are both about.
func (r Rule) meets(o Rule) bool {
	return (r.Type == 'a' || o.Type == 'a' || r.Type == o.Type) &&
		(r.Major == Any || o.Major == Any || r.Major == o.Major) &&
		(r.Minor == Any || o.Minor == Any || r.Minor == o.Minor)
}

// reset reports whether r leaves nothing of what was said before it.
func (r Rule) reset() bool {
	return r.Type == 'a' && r.Major == Any && r.Minor == Any && r.Access == All
}

// Policy says for every device and access whether it is allowed.
type Policy struct {
	// Default is what holds for a device that no rule is about.
	Default bool
	// Rules, later ones first in force. None is a reset.
	Rules []Rule
}

// Base returns the rules for the devices that the runtime specification
// promises to every container, and for making (not using) any device node. A
// runtime appends them to those of the configuration.
func Base() []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major != Any {
			r.Major = &major
		}
		if minor != Any {
			r.Minor = &minor
		}
		return r
	}
	return []specs.LinuxDeviceCgroup{
		rule("c", Any, Any, "m"),
		rule("b", Any, Any, "m"),
		rule("c", 1, 3, "rwm"),     // null
		rule("c", 1, 8, "rwm"),     // random
		rule("c", 1, 7, "rwm"),     // full
		rule("c", 5, 0, "rwm"),     // tty
		rule("c", 1, 5, "rwm"),     // zero
		rule("c", 1, 9, "rwm"),     // urandom
		rule("c", 136, Any, "rwm"), // the pseudo terminals of devpts
		rule("c", 5, 2, "rwm"),     // ptmx
	}
}

// Parse turns rules of a configuration into a policy. Its errors are of class
// Invalid.
func Parse(rules []specs.LinuxDeviceCgroup) (Policy, error) {
	var p Policy
	for i, r := range rules {
		rule, err := parseRule(r)
		if err != nil {
			return Policy{}, errdefs.New(errdefs.Invalid, "device rule %d: %w", i, err)
		}
		if rule.reset() {
			p = Policy{Default: rule.Allow}
			continue
		}
		// What the new rule overrides entirely can never count again.
		p.Rules = slices.DeleteFunc(p.Rules, func(o Rule) bool {
			return rule.covers(o) && o.Access&^rule.Access == 0
		})
		p.Rules = append(p.Rules, rule)
	}
	return p, nil
}

func parseRule(r specs.LinuxDeviceCgroup) (Rule, error) {
	rule := Rule{Allow: r.Allow, Major: Any, Minor: Any}
	switch r.Type {
	case "", "a":
		rule.Type = 'a'
	case "b", "c":
		rule.Type = r.Type[0]
	default:
		return Rule{}, fmt.Errorf("type %q is none of a, b and c", r.Type)
	}
	for _, n := range []struct {
		name string
		from *int64
		to   *int64
	}{{"major", r.Major, &rule.Major}, {"minor", r.Minor, &rule.Minor}} {
		if n.from == nil {
			continue
		}
		if *n.from < Any || *n.from > math.MaxUint32 {
			return Rule{}, fmt.Errorf("%s number %d is out of range", n.name, *n.from)
		}
		*n.to = *n.from
	}
	for _, l := range r.Access {
		switch l {
		case 'r':
			rule.Access |= Read
		case 'w':
			rule.Access |= Write
		case 'm':
			rule.Access |= Mknod
			// Other letters are passed over, as other runtimes have always done.
		}
	}
	if rule.Access == 0 {
		rule.Access = All
	}
	return rule, nil
}

// Allowed reports whether the policy allows every kind of access in access to
// a device. It is the definition that the two kernel forms are tested against.
func (p Policy) Allowed(kind byte, major, minor int64, access Access) bool {
	device := Rule{Type: kind, Major: major, Minor: minor}
	for _, r := range slices.Backward(p.Rules) {
		switch {
		case !r.covers(device):
		case !r.Allow && r.Access&access != 0:
			return false
		case r.Allow:
			if access &^= r.Access; access == 0 {
				return true
			}
		}
	}
	return p.Default
}

// String returns the policy as rules separated by semicolons.
func (p Policy) String() string {
	first := Rule{Allow: p.Default, Type: 'a', Major: Any, Minor: Any, Access: All}
	out := []string{first.String()}
	for _, r := range p.Rules {
		out = append(out, r.String())
	}
	return strings.Join(out, "; ")
}

// Line is one write to a file of a cgroup v1 devices hierarchy.
type Line struct {
	File  string // devices.allow or devices.deny
	Value string
}

// V1 returns the writes that put the policy on a cgroup of a v1 hierarchy, in
// order. The error, of class NotImplemented, says which rule needs cgroup v2.
func (p Policy) V1() ([]Line, error) {
	// The controller holds a default and exceptions from it. An exception
	// says for one device, or one wildcard, which accesses are the other way.
	var exceptions []Rule
	for _, r := range p.Rules {
		if r.Allow != p.Default {
			exceptions = append(exceptions, split(r)...)
			continue
		}
		for i, e := range exceptions {
			switch {
			case e.Access&r.Access == 0 || !e.meets(r):
			case r.covers(e):
				exceptions[i].Access &^= r.Access
			default:
				return nil, errdefs.Hint(
					errdefs.New(errdefs.NotImplemented, "device rule %q takes from %q, which the devices controller of cgroup v1 cannot do", r, e),
					"name the devices one by one, or use cgroup v2")
			}
		}
	}
	reset, change := Line{"devices.deny", "a"}, "devices.allow"
	if p.Default {
		reset, change = Line{"devices.allow", "a"}, "devices.deny"
	}
	lines := []Line{reset}
	for _, e := range exceptions {
		if e.Access != 0 {
			lines = append(lines, Line{change, e.device()})
		}
	}
	return lines, nil
}

// split makes a rule for any type into one for each: to the v1 controller, a
// line of type a means every device, whatever numbers follow.
func split(r Rule) []Rule {
	if r.Type != 'a' {
		return []Rule{r}
	}
	b, c := r, r
	b.Type, c.Type = 'b', 'c'
	return []Rule{b, c}
}
