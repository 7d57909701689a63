// Package environ is what a container's process finds in its environment.
package environ

import (
	"cmp"
	"slices"
	"strings"
)

// Of leaves each variable its last value, and adds what every process can count
// on: programs disagree about which of two values counts. home is the user's
// directory, "" if it has none.
func Of(list []string, home string) []string {
	env := make([]string, 0, len(list)+1)
	seen := make(map[string]bool, len(list))
	for _, e := range slices.Backward(list) {
		name, _, _ := strings.Cut(e, "=")
		if seen[name] {
			continue
		}
		seen[name] = true
		if e != "HOME=" {
			env = append(env, e)
		}
	}
	slices.Reverse(env)
	if Homeless(list) {
		env = append(env, "HOME="+cmp.Or(home, "/"))
	}
	return env
}

// Homeless reports whether an environment leaves HOME unset or empty.
func Homeless(env []string) bool {
	for _, e := range slices.Backward(env) {
		if home, ok := strings.CutPrefix(e, "HOME="); ok {
			return home == ""
		}
	}
	return true
}

// Path returns PATH; where it is not set, what shells take then.
func Path(env []string) string {
	for _, e := range slices.Backward(env) {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			return p
		}
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}
