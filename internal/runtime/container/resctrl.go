package container

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/runtime/plan/resctrl"
	"lade/internal/runtime/state"
)

// resctrlRoot returns where resctrl is mounted, or "".
func resctrlRoot(c *specs.Spec) string {
	if c.Linux == nil || c.Linux.IntelRdt == nil {
		return ""
	}
	const usual = "/sys/fs/resctrl"
	var s unix.Statfs_t
	if err := unix.Statfs(usual, &s); err != nil {
		return "" // the kernel makes this directory where it has resctrl
	}
	if s.Type == unix.RDTGROUP_SUPER_MAGIC {
		return usual
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "resctrl ") && len(fields) > 4 {
			return fields[4]
		}
	}
	return ""
}

// resctrlGroups returns the directories on resctrl that are made for a
// container: not a class that has a name of its own, or is there already.
func resctrlGroups(root, id string, c *specs.Spec) []string {
	if root == "" || c.Linux == nil || c.Linux.IntelRdt == nil {
		return nil
	}
	r := c.Linux.IntelRdt
	class, monitor := resctrl.Groups(root, r.ClosID, id, r.EnableMonitoring)
	var out []string
	if monitor != "" {
		out = append(out, monitor)
	}
	if _, err := os.Stat(class); r.ClosID == "" && errors.Is(err, fs.ErrNotExist) {
		out = append(out, class)
	}
	return out
}

// leaveResctrl removes them. The kernel puts who is in them into their parents.
func leaveResctrl(rec *state.Record) error {
	for _, dir := range rec.Resctrl {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
	}
	return nil
}
