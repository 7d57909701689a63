// Package version says which Lade this is.
package version

import "runtime/debug"

// Version is the release that this source tree becomes.
const Version = "0.1.0-dev"

// Revision returns the commit that the program was built from, or "" where the
// build did not record one.
func Revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}
