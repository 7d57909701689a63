package exec

import (
	"fmt"
	"strings"

	"lade/internal/linux/mount"
)

// userNamespace makes a user namespace with mappings, for idmapped mounts.
func userNamespace(uids, gids string) (int, error) {
	u, err := parseMap(uids)
	if err != nil {
		return -1, err
	}
	g, err := parseMap(gids)
	if err != nil {
		return -1, err
	}
	return mount.UserNamespace(u, g)
}

// parseMap reads the kernel's form of a mapping.
func parseMap(text string) ([]mount.IDMap, error) {
	var out []mount.IDMap
	for line := range strings.SplitSeq(text, "\n") {
		var m mount.IDMap
		if _, err := fmt.Sscanf(line, "%d %d %d", &m.Container, &m.Host, &m.Size); err != nil {
			return nil, fmt.Errorf("read mapping %q: %w", line, err)
		}
		out = append(out, m)
	}
	return out, nil
}
