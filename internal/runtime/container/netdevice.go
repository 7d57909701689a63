package container

import (
	"os"

	"lade/internal/linux/netdevice"
	"lade/internal/linux/netns"
)

// moveDevice moves a network device of the runtime's network namespace into
// the one at path, or, where path is "", that of a process.
func moveDevice(name, to, path string, pid int) error {
	open := func() (*os.File, error) { return netns.Open(pid) }
	if path != "" {
		open = func() (*os.File, error) { return os.Open(path) }
	}
	ns, err := open()
	if err != nil {
		return err
	}
	defer ns.Close()
	return netdevice.Move(name, to, ns)
}
