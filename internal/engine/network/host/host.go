// Package host is the kernel's network state in the namespace of the engine: what
// the host has of its own, which networks must leave alone, and what it is turned
// to while networks are up.
package host

import (
	"crypto/sha256"
	"encoding/binary"
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

// Host is the kernel's network state in the namespace of the engine.
type Host struct {
	Links   *rtnl.Conn
	Rules   *nft.Conn
	Owner   uint32 // the group of all links that are this engine's
	Comment string // of its tables, and the beginning of its bridges' aliases
}

// New opens the kernel for an engine, which its owner sets apart from others.
func New(owner string) (*Host, error) {
	links, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	rules, err := nft.Dial()
	if err != nil {
		return nil, errors.Join(err, links.Close())
	}
	return &Host{links, rules, ownerOf(owner), mark + owner}, nil
}

// Close lets go of the kernel. What was made stays.
func (h *Host) Close() error { return errors.Join(h.Links.Close(), h.Rules.Close()) }

// mark begins what tells people and other engines whose a table or a bridge
// is; the engine's state directory follows. The words after it say that the
// engine turned forwarding on, or came when another that had done so was there.
const (
	mark    = "Lade, engine "
	wasOff4 = "; ip_forward was off"
	wasOff6 = "; IPv6 forwarding was off"
)

// Table is the table of rules that is there while any bridge is.
type Table struct {
	Name string
	// Guard4 and Guard6 say that the host forwards packets only because of
	// engines like this one.
	Guard4, Guard6 bool
}

// Learn adds what the alias of a bridge says of forwarding.
func (t *Table) Learn(alias string) {
	t.Guard4 = t.Guard4 || strings.Contains(alias, wasOff4)
	t.Guard6 = t.Guard6 || strings.Contains(alias, wasOff6)
}

// Alias returns what a bridge says of whose it is.
func (h *Host) Alias(t Table) string {
	s := h.Comment[:min(len(h.Comment), 180)]
	if t.Guard4 {
		s += wasOff4
	}
	if t.Guard6 {
		s += wasOff6
	}
	return s
}

// IsBridge reports whether a link is an engine's bridge.
func IsBridge(l rtnl.Link) bool {
	return l.Kind == "bridge" && strings.HasPrefix(l.Alias, mark) || isBridgeName(l.Name) && l.Kind == "bridge"
}

func isBridgeName(name string) bool {
	digits, ok := strings.CutPrefix(name, rules.Prefix)
	_, err := strconv.ParseUint(digits, 10, 16)
	return ok && (err == nil || strings.HasPrefix(digits, "-"))
}

// Guards returns whether the host forwards packets of either version only because
// of engines like this one, or will when this one has turned it on.
func (h *Host) Guards() (four, six bool, err error) {
	links, err := h.Links.Links()
	if err != nil {
		return false, false, err
	}
	on, err := Forwarding(4)
	if err != nil {
		return false, false, err
	}
	on6, err := Forwarding(6)
	if err != nil {
		on6 = true // a kernel without IPv6 forwards none
	}
	four, six = !on, !on6
	for _, l := range links {
		if IsBridge(l) {
			four = four || strings.Contains(l.Alias, wasOff4)
			six = six || strings.Contains(l.Alias, wasOff6)
		}
	}
	return four, six, nil
}

// FreeName returns the first name for a bridge that is free.
func (h *Host) FreeName() (string, error) {
	links, err := h.Links.Links()
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

// Disconnect removes links of this engine's, all in one go.
func (h *Host) Disconnect(ports ...bridge.Port) error {
	return bridge.Disconnect(h.Links, h.Owner, ports...)
}

// DisconnectLeft removes the links of those ports whose namespace is held.
func (h *Host) DisconnectLeft(ports []bridge.Port) error {
	var left []bridge.Port
	for _, p := range ports {
		_, err := h.Links.LinkByName(p.Link)
		if errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return err
		}
		left = append(left, p)
	}
	if len(left) == 0 {
		return nil
	}
	return h.Disconnect(left...)
}

// forwardingFile returns the switch of a version of IP.
func forwardingFile(version int) string {
	if version == 6 {
		return "ipv6/conf/all/forwarding"
	}
	return "ipv4/ip_forward"
}

// Forwarding reports whether the host forwards packets.
func Forwarding(version int) (bool, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net", forwardingFile(version)))
	return strings.TrimSpace(string(b)) != "0", err
}

// SetForwarding has the host forward packets, or not.
func SetForwarding(version int, on bool) error {
	if now, err := Forwarding(version); err != nil || now == on {
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

// StartForwarding6 has the host forward IPv6. A host that forwards takes no
// router's advertisements any more, unless told so for each link: those that have
// their addresses from there would lose them.
func StartForwarding6() error {
	on, err := Forwarding(6)
	if on || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := swapAcceptRA(unlessForwarding, always); err != nil {
		return err
	}
	return SetForwarding(6, true)
}

func stopForwarding6() error {
	if err := SetForwarding(6, false); err != nil && !errors.Is(err, os.ErrNotExist) {
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

// StopForwarding turns off what engines like this one turned on, if this is the
// last one.
func (h *Host) StopForwarding(t Table) error {
	links, err := h.Links.Links()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(links, IsBridge) {
		return nil
	}
	if t.Guard4 {
		err = SetForwarding(4, false)
	}
	if on, _ := Forwarding(6); t.Guard6 && on {
		err = errors.Join(err, stopForwarding6())
	}
	return err
}

// Use is a part of the address space that somebody uses, and who.
type Use struct {
	Prefix netip.Prefix
	By     string
}

// Overlapping returns the first use that has an address in common with a subnet.
func Overlapping(p netip.Prefix, uses []Use) (Use, bool) {
	for _, u := range uses {
		// The default route leads everywhere and says nothing.
		if u.Prefix.Bits() > 0 && p.Overlaps(u.Prefix) {
			return u, true
		}
	}
	return Use{}, false
}

// InUse returns the addresses that a new subnet must leave alone: where the
// host has routes to, and its resolvers.
func (h *Host) InUse() ([]Use, error) {
	routes, err := h.Links.Routes()
	if err != nil {
		return nil, err
	}
	routes6, err := h.Links.Routes6()
	if err != nil {
		routes6 = nil // a kernel without IPv6
	}
	links, err := h.Links.Links()
	if err != nil {
		return nil, err
	}
	var out []Use
	for _, r := range append(routes, routes6...) {
		by := "a route of the host"
		for _, l := range links {
			if l.Index == r.Link {
				by = fmt.Sprintf("the host's route to %s by %s", r.Dst, l.Name)
			}
		}
		out = append(out, Use{r.Dst, by})
	}
	b, _ := os.ReadFile("/etc/resolv.conf")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() {
				out = append(out, Use{netip.PrefixFrom(a.WithZone(""), a.BitLen()), "the host's name server " + f[1]})
			}
		}
	}
	return out, nil
}

// MTU returns the largest packet that fits through the link of the default
// route: containers that send larger ones lose them where no router tells.
func (h *Host) MTU() int {
	const ethernet = 1500
	routes, err := h.Links.Routes()
	if err != nil {
		return ethernet
	}
	links, err := h.Links.Links()
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

// ownerOf returns an owner as a number that links can carry: even and not 0.
func ownerOf(name string) uint32 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint32(sum[:])&^1 | 2
}

// HaveIPv6 reports whether the kernel has IPv6.
func HaveIPv6() bool {
	_, err := Forwarding(6)
	return err == nil
}
