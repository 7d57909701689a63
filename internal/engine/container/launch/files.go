package launch

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

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
	resolv, err := etcfiles.Resolv(d.Host)
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

// NameAddresses puts a container's addresses in its /etc/hosts. The file is bound
// into the container by now, so it is written in place.
func (l *Launcher) NameAddresses(d record.Definition, addrs []netip.Addr) error {
	text, err := etcfiles.Hosts(d.Config, d.Host, addrs...)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.cfg.Data(d.ID), hostsFile), os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("name the container's address: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
