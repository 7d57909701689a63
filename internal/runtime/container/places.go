package container

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/inroot"
	"lade/internal/runtime/plan"
)

// places looks at where mounts go in a root. What it finds is a hint: the child
// resolves every place anew, inside the root.
func places(root string, c *specs.Spec) map[string]plan.Place {
	dir, err := os.Open(root)
	if err != nil {
		return nil // said by the program
	}
	defer dir.Close()
	found := map[string]plan.Place{}
	for i := range c.Mounts {
		dest := path.Join("/", c.Mounts[i].Destination)
		if inside, ok := plan.Below(root, dest); ok {
			dest = inside
		}
		f, err := inroot.Path(dir, dest)
		if errors.Is(err, os.ErrNotExist) {
			if to, err := inroot.Resolve(dir, dest); err == nil && to != dest {
				found[c.Mounts[i].Destination] = plan.Place{Link: to}
			}
			continue
		}
		if err != nil || c.Mounts[i].Type != "tmpfs" {
			_ = f.Close()
			continue
		}
		if st, err := f.Stat(); err == nil && st.IsDir() {
			found[c.Mounts[i].Destination] = plan.Place{Mode: unixMode(st.Mode())}
		}
		_ = f.Close()
	}
	return found
}

// unixMode returns the permissions as the kernel has them.
func unixMode(m os.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, b := range []struct {
		has os.FileMode
		bit uint32
	}{{os.ModeSetuid, 0o4000}, {os.ModeSetgid, 0o2000}, {os.ModeSticky, 0o1000}} {
		if m&b.has != 0 {
			mode |= b.bit
		}
	}
	return mode
}

// pseudo returns the mounts of whole procfs and sysfs file systems outside of a
// root.
func pseudo(root string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts of procfs and sysfs: %w", err)
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		mount, fs, _ := strings.Cut(lines.Text(), " - ")
		words := strings.Fields(mount)
		if len(words) < 5 || words[3] != "/" || !strings.HasPrefix(fs, "proc ") && !strings.HasPrefix(fs, "sysfs ") {
			continue
		}
		place := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(words[4])
		if _, inside := plan.Below(root, place); !inside {
			found = append(found, place)
		}
	}
	return found, lines.Err()
}
