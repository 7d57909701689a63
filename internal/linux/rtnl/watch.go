package rtnl

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Watcher is told of what anybody changes in links and addresses.
type Watcher struct {
	nl *netlink.Monitor
}

// Event is a change of a link.
type Event struct {
	Link   string // its name; "" where only an address has changed
	Index  int
	Gone   bool // the link, or an address of it
	Up     bool
	Master int
}

// Watch begins to watch the network namespace of the calling thread.
func Watch() (*Watcher, error) {
	nl, err := netlink.Watch(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, err
	}
	return &Watcher{nl}, nil
}

// Close ends the watching, and a Next that waits.
func (w *Watcher) Close() error { return w.nl.Close() }

// Next waits for changes, and reports whether there is one that c did not make and
// that matters, or may be.
func (w *Watcher) Next(c *Conn, matters func(Event) bool) (touched bool, err error) {
	own := c.nl.Port()
	var events []Event
	err = w.nl.Next(func(sender uint32, m netlink.Message) {
		if e, ok := parseEvent(m); ok && sender != own {
			events = append(events, e)
		}
	})
	if errors.Is(err, netlink.ErrMissed) {
		return true, nil
	}
	for _, e := range events {
		touched = touched || matters(e)
	}
	return touched, err
}

func parseEvent(m netlink.Message) (Event, bool) {
	switch m.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, err := parseLink(m.Data)
		return Event{Link: l.Name, Index: l.Index, Gone: m.Type == unix.RTM_DELLINK, Up: l.Up, Master: l.Master}, err == nil
	case unix.RTM_DELADDR:
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return Event{}, false
		}
		return Event{Index: int(binary.NativeEndian.Uint32(m.Data[4:])), Gone: true}, true
	}
	return Event{}, false
}
