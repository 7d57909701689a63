package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"lade/internal/linux/nft"
	"lade/internal/linux/rtnl"
	"lade/internal/network/bridge"
)

// host is the kernel's network state in the namespace of the engine.
type host struct {
	links *rtnl.Conn
	rules *nft.Conn
	owner uint32 // the group of all links that are this engine's
}

func newHost(owner uint32) (*host, error) {
	links, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	rules, err := nft.Dial()
	if err != nil {
		return nil, errors.Join(err, links.Close())
	}
	return &host{links, rules, owner}, nil
}

func (h *host) close() error { return errors.Join(h.links.Close(), h.rules.Close()) }

// up makes a network, its rules first: no packet passes without them.
func (h *host) up(n bridge.Network, guard bool) (index int, err error) {
	if err := h.rules.Replace(bridge.Rules([]bridge.Network{n}, guard)); err != nil {
		return 0, err
	}
	index, err = bridge.SetUp(h.links, n)
	if err != nil {
		return 0, err
	}
	if guard {
		// For other engines that come while this one's bridge is there.
		if err := h.links.Do(rtnl.SetAlias(index, forwardingWasOff)); err != nil {
			return 0, err
		}
	}
	return index, setForwarding(true)
}

// down removes a network, its rules last.
func (h *host) down(n bridge.Network, stopForwarding bool) error {
	if err := bridge.TearDown(h.links, n); err != nil {
		return err
	}
	if stopForwarding {
		// The last engine turns it off.
		links, err := h.links.Links()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(links, isBridge) {
			if err := setForwarding(false); err != nil {
				return err
			}
		}
	}
	return h.rules.Delete(bridge.Table(n))
}

// forwardingWasOff is the alias of a bridge whose engine turned forwarding on,
// or came when another that had done so was there.
const forwardingWasOff = "lade: ip_forward was off before"

// bridgeName returns the name for a new bridge, the first that is free, and
// whether the host forwards packets only because of engines like this one.
func (h *host) bridgeName() (name string, guard bool, err error) {
	links, err := h.links.Links()
	if err != nil {
		return "", false, err
	}
	forwards, err := forwarding()
	guard = !forwards
	taken := map[string]bool{}
	for _, l := range links {
		taken[l.Name] = true
		if isBridge(l) && l.Alias == forwardingWasOff {
			guard = true
		}
	}
	for i := 0; ; i++ {
		if name = bridge.Prefix + strconv.Itoa(i); !taken[name] {
			return name, guard, err
		}
	}
}

// isBridge reports whether a link is an engine's bridge.
func isBridge(l rtnl.Link) bool {
	digits, ok := strings.CutPrefix(l.Name, bridge.Prefix)
	_, err := strconv.ParseUint(digits, 10, 16)
	return ok && err == nil && l.Kind == "bridge"
}

func (h *host) connect(n bridge.Network, index int, p bridge.Port, ns *os.File) error {
	return bridge.Connect(h.links, n, index, p, ns)
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

const forwardingFile = "/proc/sys/net/ipv4/ip_forward"

// forwarding reports whether the host forwards packets.
func forwarding() (bool, error) {
	b, err := os.ReadFile(forwardingFile)
	return strings.TrimSpace(string(b)) != "0", err
}

func setForwarding(on bool) error {
	if now, err := forwarding(); err != nil || now == on {
		return err
	}
	value := "0"
	if on {
		value = "1"
	}
	if err := bridge.SetSysctl("ipv4/ip_forward", value); err != nil {
		return fmt.Errorf("set ip_forward to %s: %w", value, err)
	}
	return nil
}

// inUse returns the addresses that a new subnet must leave alone: where the
// host has routes to, and its resolvers.
func (h *host) inUse() ([]netip.Prefix, error) {
	routes, err := h.links.Routes()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range routes {
		out = append(out, r.Dst)
	}
	b, _ := os.ReadFile("/etc/resolv.conf")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && a.Is4() {
				out = append(out, netip.PrefixFrom(a, 32))
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
