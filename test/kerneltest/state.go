package kerneltest

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"unsafe"
)

// state is what a test binary can leave behind: one line for each thing.
type state map[string]bool

// look takes the state of this process and of what its tests may touch.
func look(o Options) state {
	// The runtime's poller opens its descriptors at first use; have it done.
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
	s := state{}
	for _, pid := range children() {
		s[fmt.Sprintf("process %d", pid)] = true
	}
	s.addDescriptors()
	s.addMounts()
	if o.Net {
		links, _ := net.Interfaces()
		for _, l := range links {
			s["link "+l.Name] = true
		}
	}
	for _, d := range o.Dirs {
		_ = filepath.WalkDir(d, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && path != d {
				s["file "+path] = true
			}
			return nil
		})
	}
	return s
}

// minus returns the lines of s that are not in before, sorted.
func (s state) minus(before state) []string {
	var out []string
	for k := range s {
		if !before[k] {
			out = append(out, k)
		}
	}
	sort.Strings(out)
	return out
}

func (s state) addDescriptors() {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		// The descriptor of this very listing is gone again.
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			s["descriptor "+fd.Name()+" -> "+to] = true
		}
	}
}

// addMounts adds every mount, and the cgroups of this binary in the
// hierarchies that are mounted.
func (s state) addMounts() {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		s["mount "+f[0]+" at "+f[4]] = true
		if i := strings.Index(line, " - cgroup"); i > 0 {
			s.addCgroups(f[4])
		}
	}
}

func (s state) addCgroups(root string) {
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		// Cgroups of others come and go during the walk: no reason to stop.
		if err == nil && e.IsDir() && strings.Contains(path, prefix()) {
			s["cgroup "+path] = true
		}
		return nil
	})
}

// loopbackUp sets lo up, which a new network namespace has down.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer syscall.Close(fd)
	var req struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(req.name[:], "lo")
	req.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("set lo up: %w", errno)
	}
	return nil
}
