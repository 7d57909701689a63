// Package etcfiles writes the text of the files that the engine gives every
// container in place of its image's: /etc/hosts and /etc/resolv.conf. It is
// pure but for Resolv, which reads the host's own.
package etcfiles

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/request"
)

// Hosts returns the text of /etc/hosts for a container with addresses.
func Hosts(c *api.Config, h *api.HostConfig, addrs ...netip.Addr) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, addr := range addrs {
		names := c.Hostname
		if c.Domainname != "" {
			names = c.Hostname + "." + c.Domainname + " " + c.Hostname
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, names)
	}
	extra, err := request.ExtraHosts(h.ExtraHosts, netip.Addr{})
	return Append(b.Bytes(), extra), err
}

// Append returns text with a line for each of extra.
func Append(text []byte, extra []request.HostEntry) []byte {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	for _, e := range extra {
		text = fmt.Appendf(text, "%s\t%s\n", e.Addr, e.Name)
	}
	return text
}

// Resolver is where a container in a network with names asks, as in Docker.
func Resolver() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// Resolv returns a container's /etc/resolv.conf: the host's, without the
// servers that only the host can reach, with what the request says in place. A
// container in a network with names (named) has one server, the engine's, and asks it
// for names without dots first.
func Resolv(h *api.HostConfig, named bool) ([]byte, error) {
	if named {
		own := *h
		own.DNS = []netip.Addr{Resolver()}
		if len(h.DNSOptions) > 0 && !slices.ContainsFunc(h.DNSOptions, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			own.DNSOptions = append(slices.Clone(h.DNSOptions), "ndots:0")
		}
		text, err := Resolv(&own, false)
		if err == nil && len(h.DNSOptions) == 0 {
			text = withOption(text, "ndots:0")
		}
		return text, err
	}
	var host []byte
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if host = data; !onlyLocalServers(data) || h.NetworkMode.IsHost() {
			break
		}
	}
	return mergeResolv(host, h), nil
}

// withOption adds an option to a resolv.conf whose options come from the host,
// unless it says that one itself.
func withOption(text []byte, option string) []byte {
	name, _, _ := strings.Cut(option, ":")
	var b strings.Builder
	done := false
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == "options" && !done {
			done = true
			if !slices.ContainsFunc(f, func(o string) bool { return strings.HasPrefix(o, name+":") }) {
				line = strings.Join(append(f, option), " ") + "\n"
			}
		}
		b.WriteString(line)
	}
	if !done {
		b.WriteString("options " + option + "\n")
	}
	return []byte(b.String())
}

// onlyLocalServers reports whether a resolv.conf names servers, all of them on
// the loopback: a stub whose real servers are elsewhere (systemd-resolved).
func onlyLocalServers(text []byte) bool {
	any := false
	for line := range strings.Lines(string(text)) {
		if a, ok := nameserver(line); ok {
			if !a.IsLoopback() {
				return false
			}
			any = true
		}
	}
	return any
}

func nameserver(line string) (netip.Addr, bool) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "nameserver" {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(f[1])
	return a, err == nil
}

func mergeResolv(host []byte, h *api.HostConfig) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(host)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' || f[0][0] == ';' {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, ok := nameserver(line); len(h.DNS) > 0 || !ok || a.IsLoopback() && !h.NetworkMode.IsHost() {
				continue
			}
		case "search", "domain":
			if len(h.DNSSearch) > 0 {
				continue
			}
		case "options":
			if len(h.DNSOptions) > 0 {
				continue
			}
		}
		b.WriteString(strings.Join(f, " ") + "\n")
	}
	for _, a := range h.DNS {
		b.WriteString("nameserver " + a.String() + "\n")
	}
	if len(h.DNSSearch) > 0 && !slices.Equal(h.DNSSearch, []string{"."}) {
		b.WriteString("search " + strings.Join(h.DNSSearch, " ") + "\n")
	}
	if len(h.DNSOptions) > 0 {
		b.WriteString("options " + strings.Join(h.DNSOptions, " ") + "\n")
	}
	return []byte(b.String())
}
