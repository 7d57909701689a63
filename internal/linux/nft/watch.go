package nft

import (
	"errors"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Watcher is told of what anybody changes in tables.
type Watcher struct {
	nl *netlink.Monitor
}

// Watch begins to watch the network namespace of the calling thread.
func Watch() (*Watcher, error) {
	const tables = 7 // NFNLGRP_NFTABLES
	nl, err := netlink.Watch(unix.NETLINK_NETFILTER, tables)
	if err != nil {
		return nil, err
	}
	return &Watcher{nl}, nil
}

// Close ends the watching, and a Next that waits.
func (w *Watcher) Close() error { return w.nl.Close() }

// Next waits for changes, and reports whether others than c made some in tables
// of a name, or may have.
func (w *Watcher) Next(c *Conn, table string) (touched bool, err error) {
	const name = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, …
	own := c.nl.Port()
	err = w.nl.Next(func(sender uint32, m netlink.Message) {
		if m.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Type&0xff == unix.NFT_MSG_NEWGEN {
			return
		}
		if sender != own && netlink.CString(attributes(m.Data)[name]) == table {
			touched = true
		}
	})
	if errors.Is(err, netlink.ErrMissed) {
		return true, nil
	}
	return touched, err
}
