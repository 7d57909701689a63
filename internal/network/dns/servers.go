package dns

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// HostServers reads the servers that a host's resolv.conf names, again when
// the file has changed: by a DHCP client, a VPN or by hand. Its methods may be
// called concurrently.
type HostServers struct {
	// Path of the file; empty means /etc/resolv.conf.
	Path string

	mu      sync.Mutex
	read    os.FileInfo      // the file as it was when it was read; guarded by mu
	servers []netip.AddrPort // guarded by mu
}

// Servers returns them in the file's order. It looks at the file each time,
// which takes a microsecond, and reads it if that is another one. A file that is
// away for a moment, as while it is replaced, changes nothing.
func (h *HostServers) Servers() []netip.AddrPort {
	path := h.Path
	if path == "" {
		path = "/etc/resolv.conf"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil || h.read != nil && os.SameFile(info, h.read) && info.ModTime().Equal(h.read.ModTime()) && info.Size() == h.read.Size() {
		return h.servers
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return h.servers
	}
	h.servers, h.read = ParseServers(string(text)), info
	if time.Since(info.ModTime()) < 2*time.Second {
		// A second change within the clock's grain would not show: look again.
		h.read = nil
	}
	return h.servers
}

// ParseServers returns the servers that a resolv.conf names (resolv.conf(5)),
// each once. What it cannot read it passes over, as libc does.
func ParseServers(text string) (servers []netip.AddrPort) {
	seen := map[netip.AddrPort]bool{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			continue
		}
		if s := netip.AddrPortFrom(a, 53); !seen[s] {
			seen[s] = true
			servers = append(servers, s)
		}
	}
	return servers
}
