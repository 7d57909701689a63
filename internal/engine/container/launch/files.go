package launch

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/atomicfile"
	"lade/internal/engine/container/etcfiles"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
)

// The files that the engine makes for a container, in its data directory. They
// are bound over those of the image.
const (
	hostsFile    = "hosts"
	hostnameFile = "hostname"
	resolvFile   = "resolv.conf"
)

// WriteFiles makes a container's own /etc/hosts, /etc/hostname and
// /etc/resolv.conf, owned by its root.
func (l *Launcher) WriteFiles(d record.Definition) error {
	dir := l.cfg.Data(d.ID)
	resolv, err := etcfiles.Resolv(d.Host, named(d))
	if err != nil {
		return err
	}
	hosts, err := etcfiles.Hosts(d.Config, d.Host)
	if err != nil {
		return err
	}
	if d.Host.NetworkMode.IsHost() {
		if own, err := os.ReadFile("/etc/hosts"); err == nil {
			extra, err := request.ExtraHosts(d.Host.ExtraHosts, netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				return err
			}
			hosts = etcfiles.Append(own, extra)
		}
	}
	for name, text := range map[string][]byte{hostsFile: hosts, hostnameFile: []byte(d.Config.Hostname + "\n"), resolvFile: resolv} {
		path := filepath.Join(dir, name)
		if err := atomicfile.Write(path, text, atomicfile.Options{Mode: 0o644}); err != nil {
			return err
		}
		if d.IDBase == 0 {
			continue
		}
		if err := os.Lchown(path, int(d.IDBase), int(d.IDBase)); err != nil {
			return fmt.Errorf("give the container its %s: %w", name, err)
		}
	}
	return nil
}

// named reports whether one of a container's networks has names.
func named(d record.Definition) bool {
	if d.Host.NetworkMode.IsUserDefined() {
		return true
	}
	if d.Networks == nil {
		return false
	}
	for name := range d.Networks.EndpointsConfig {
		if api.NetworkMode(name).IsUserDefined() {
			return true
		}
	}
	return false
}

// NameServers writes a container's /etc/resolv.conf anew, where its networks have
// changed and it is still as it was written.
func (l *Launcher) NameServers(before, now record.Definition) error {
	if named(before) == named(now) {
		return nil
	}
	was, err := etcfiles.Resolv(before.Host, named(before))
	if err != nil {
		return err
	}
	path := filepath.Join(l.cfg.Data(now.ID), resolvFile)
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, was) {
		return err
	}
	text, err := etcfiles.Resolv(now.Host, named(now))
	if err != nil {
		return err
	}
	return rewrite(path, text)
}

// NameAddresses puts a container's addresses in its /etc/hosts. The file is bound
// into the container by now, so it is written in place.
func (l *Launcher) NameAddresses(d record.Definition, addrs []netip.Addr) error {
	text, err := etcfiles.Hosts(d.Config, d.Host, addrs...)
	if err != nil {
		return err
	}
	return rewrite(filepath.Join(l.cfg.Data(d.ID), hostsFile), text)
}

// rewrite writes a file in place that a container has by now.
func rewrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("write the container's %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
