package launch

import "path/filepath"

// Paths says where the files of containers are.
type Paths struct {
	DataDir  string // holds containers/ID: what survives a reboot
	StateDir string // holds containers/ID: the bundles
}

// Data is where a container's files that survive a reboot are.
func (p Paths) Data(id string) string { return filepath.Join(p.DataDir, "containers", id) }

// Bundle is the container's OCI bundle.
func (p Paths) Bundle(id string) string { return filepath.Join(p.StateDir, "containers", id) }

// ExitFile is where the shim writes how the container ended.
func (p Paths) ExitFile(id string) string { return filepath.Join(p.Data(id), "exit.json") }

// LogDir holds the container's log.
func (p Paths) LogDir(id string) string { return filepath.Join(p.Data(id), "log") }

// Hosts is the container's own /etc/hosts, which is bound over the image's.
func (p Paths) Hosts(id string) string { return filepath.Join(p.Data(id), hostsFile) }

// Hostname is its /etc/hostname.
func (p Paths) Hostname(id string) string { return filepath.Join(p.Data(id), hostnameFile) }

// Resolv is its /etc/resolv.conf.
func (p Paths) Resolv(id string) string { return filepath.Join(p.Data(id), resolvFile) }

// RuntimeRoot is where the runtime keeps what it knows.
func (p Paths) RuntimeRoot() string { return filepath.Join(p.StateDir, "runtime") }
