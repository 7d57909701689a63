package hostfacts

import "path/filepath"

// MaskedPaths returns further paths to mask that depend on the machine: files
// of each processor that tell by its heat what others compute
// (GHSA-6fw5-f8r9-fgfm).
func MaskedPaths() []string {
	paths, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle") // the pattern is good
	return paths
}
