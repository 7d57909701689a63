package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"lade/internal/linux/nft"
	"lade/internal/linux/rtnl"
	"lade/internal/network/bridge"
	"lade/internal/network/rules"
)

// host is the kernel's network state in the namespace of the engine.
type host struct {
	links   *rtnl.Conn
	rules   *nft.Conn
	owner   uint32 // the group of all links that are this engine's
	comment string // of its tables, and the beginning of its bridges' aliases
}

func newHost(owner string) (*host, error) {
	links, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	rules, err := nft.Dial()
	if err != nil {
		return nil, errors.Join(err, links.Close())
	}
	return &host{links, rules, ownerOf(owner), engineMark + owner}, nil
}

func (h *host) close() error { return errors.Join(h.links.Close(), h.rules.Close()) }

// engineMark begins what tells people and other engines whose a table or a bridge
// is; the engine's state directory follows. The words after it say that the
// engine turned forwarding on, or came when another that had done so was there.
const (
	engineMark = "Lade, engine "
	wasOff4    = "; ip_forward was off"
	wasOff6    = "; IPv6 forwarding was off"
)

func (h *host) alias(t table) string {
	s := h.comment[:min(len(h.comment), 180)]
	if t.Guard4 {
		s += wasOff4
	}
	if t.Guard6 {
		s += wasOff6
	}
	return s
}

// isBridge reports whether a link is an engine's bridge.
func isBridge(l rtnl.Link) bool {
	return l.Kind == "bridge" && strings.HasPrefix(l.Alias, engineMark) || isBridgeName(l.Name) && l.Kind == "bridge"
}

func isBridgeName(name string) bool {
	digits, ok := strings.CutPrefix(name, rules.Prefix)
	_, err := strconv.ParseUint(digits, 10, 16)
	return ok && (err == nil || strings.HasPrefix(digits, "-"))
}

// guards returns whether the host forwards packets of either version only because
// of engines like this one, or will when this one has turned it on.
func (h *host) guards() (four, six bool, err error) {
	links, err := h.links.Links()
	if err != nil {
		return false, false, err
	}
	on, err := forwarding(4)
	if err != nil {
		return false, false, err
	}
	on6, err := forwarding(6)
	if err != nil {
		on6 = true // a kernel without IPv6 forwards none
	}
	four, six = !on, !on6
	for _, l := range links {
		if isBridge(l) {
			four = four || strings.Contains(l.Alias, wasOff4)
			six = six || strings.Contains(l.Alias, wasOff6)
		}
	}
	return four, six, nil
}

// freeName returns the first name for a bridge that is free.
func (h *host) freeName() (string, error) {
	links, err := h.links.Links()
	if err != nil {
		return "", err
	}
	for i := 0; ; i++ {
		name := rules.Prefix + strconv.Itoa(i)
		if !slices.ContainsFunc(links, func(l rtnl.Link) bool { return l.Name == name }) {
			return name, nil
		}
	}
}

func (h *host) disconnect(ports ...bridge.Port) error {
	return bridge.Disconnect(h.links, h.owner, ports...)
}

// disconnectLeft removes the links of those ports whose namespace is held.
func (h *host) disconnectLeft(ports []*port) error {
	var left []bridge.Port
	for _, p := range ports {
		_, err := h.links.LinkByName(p.rec.Link)
		if errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return err
		}
		left = append(left, p.rec.Port)
	}
	if len(left) == 0 {
		return nil
	}
	return h.disconnect(left...)
}

// forwardingFile returns the switch of a version of IP.
func forwardingFile(version int) string {
	if version == 6 {
		return "ipv6/conf/all/forwarding"
	}
	return "ipv4/ip_forward"
}

// forwarding reports whether the host forwards packets.
func forwarding(version int) (bool, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net", forwardingFile(version)))
	return strings.TrimSpace(string(b)) != "0", err
}

func setForwarding(version int, on bool) error {
	if now, err := forwarding(version); err != nil || now == on {
		return err
	}
	value := "0"
	if on {
		value = "1"
	}
	if err := bridge.SetSysctl(forwardingFile(version), value); err != nil {
		return fmt.Errorf("set IPv%d forwarding to %s: %w", version, value, err)
	}
	return nil
}

// The values of accept_ra: whether a link takes addresses and routes from router
// advertisements, where the host forwards nothing, or whatever it does.
const (
	unlessForwarding = "1"
	always           = "2"
)

// startForwarding6 has the host forward IPv6. A host that forwards takes no
// router's advertisements any more, unless told so for each link: those that have
// their addresses from there would lose them.
func startForwarding6() error {
	on, err := forwarding(6)
	if on || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := swapAcceptRA(unlessForwarding, always); err != nil {
		return err
	}
	return setForwarding(6, true)
}

func stopForwarding6() error {
	if err := setForwarding(6, false); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return swapAcceptRA(always, unlessForwarding)
}

func swapAcceptRA(from, to string) error {
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, f := range files {
		link := filepath.Base(filepath.Dir(f))
		if link == "all" || link == "lo" || strings.HasPrefix(link, rules.Prefix) {
			continue
		}
		if b, err := os.ReadFile(f); err != nil || strings.TrimSpace(string(b)) != from {
			continue
		}
		if err := bridge.SetSysctl(filepath.Join("ipv6/conf", link, "accept_ra"), to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("let %s go on with router advertisements: %w", link, err)
		}
	}
	return nil
}

// stopForwarding turns off what engines like this one turned on, if this is the
// last one.
func (h *host) stopForwarding(t table) error {
	links, err := h.links.Links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(links, isBridge) {
		return nil
	}
	if t.Guard4 {
		err = setForwarding(4, false)
	}
	if on, _ := forwarding(6); t.Guard6 && on {
		err = errors.Join(err, stopForwarding6())
	}
	return err
}

// use is a part of the address space that somebody uses, and who.
type use struct {
	prefix netip.Prefix
	by     string
}

// overlapping returns the first use that has an address in common with a subnet.
func overlapping(p netip.Prefix, uses []use) (use, bool) {
	for _, u := range uses {
		// The default route leads everywhere and says nothing.
		if u.prefix.Bits() > 0 && p.Overlaps(u.prefix) {
			return u, true
		}
	}
	return use{}, false
}

// inUse returns the addresses that a new subnet must leave alone: where the
// host has routes to, and its resolvers.
func (h *host) inUse() ([]use, error) {
	routes, err := h.links.Routes()
	if err != nil {
		return nil, err
	}
	routes6, err := h.links.Routes6()
	if err != nil {
		routes6 = nil // a kernel without IPv6
	}
	links, err := h.links.Links()
	if err != nil {
		return nil, err
	}
	var out []use
	for _, r := range append(routes, routes6...) {
		by := "a route of the host"
		for _, l := range links {
			if l.Index == r.Link {
				by = fmt.Sprintf("the host's route to %s by %s", r.Dst, l.Name)
			}
		}
		out = append(out, use{r.Dst, by})
	}
	b, _ := os.ReadFile("/etc/resolv.conf")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() {
				out = append(out, use{netip.PrefixFrom(a.WithZone(""), a.BitLen()), "the host's name server " + f[1]})
			}
		}
	}
	return out, nil
}

// mtu returns the largest packet that fits through the link of the default
// route: containers that send larger ones lose them where no router tells.
func (h *host) mtu() int {
	const ethernet = 1500
	routes, err := h.links.Routes()
	if err != nil {
		return ethernet
	}
	links, err := h.links.Links()
	if err != nil {
		return ethernet
	}
	for _, r := range routes {
		if r.Dst.Bits() != 0 {
			continue
		}
		for _, l := range links {
			if l.Index == r.Link && l.MTU > 0 {
				return min(l.MTU, ethernet)
			}
		}
	}
	return ethernet
}
