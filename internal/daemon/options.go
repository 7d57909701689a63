package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"lade/api"
	"lade/internal/cdi"
	"lade/internal/errdefs"
	"lade/internal/network/ipam"
	"lade/internal/registry/config"
)

// Options say where an engine lives and what it uses. Flags go before the
// environment, and that before what the user's id suggests.
type Options struct {
	Host     string // unix:///path
	DataRoot string // what must survive a reboot
	StateDir string // what must not
	// ConfigDir is where an administrator writes registries.conf and certs.d.
	ConfigDir string
	Runtime   string // the default OCI runtime: a name, a path, or NAME=PATH
	// Pools are where networks have their subnets from, if they name none.
	Pools []ipam.Range
	// Publish is the address of ports that are published without one; not valid
	// is all of the host's.
	Publish netip.Addr
	// MaxDisk bounds what images take on disk, in bytes; 0 does not.
	MaxDisk  int64
	LogLevel slog.Level
	Follow   bool // take over from the engine that runs, if one does
	Version  bool
}

// ParseOptions reads the command line.
func ParseOptions(args []string, getenv func(string) string) (Options, error) {
	o := Options{Host: getenv(api.EnvHost), DataRoot: getenv(api.EnvDataRoot), StateDir: getenv(api.EnvStateDir), ConfigDir: getenv(api.EnvConfigDir)}
	var level string
	f := pflag.NewFlagSet("laded", pflag.ContinueOnError)
	f.StringVarP(&o.Host, "host", "H", o.Host, "where to listen: unix:///path")
	f.StringVar(&o.DataRoot, "data-root", o.DataRoot, "directory of images and containers")
	f.StringVar(&o.StateDir, "state-dir", o.StateDir, "directory of what ends with the boot")
	f.StringVar(&o.ConfigDir, "config-dir", o.ConfigDir, "directory of registries.conf and certs.d")
	f.StringVar(&o.Runtime, "runtime", "", "default OCI runtime: NAME, PATH or NAME=PATH")
	pools := f.StringArray("address-pool", nil, "where networks have their subnets from: base=10.0.0.0/8,size=24 (may be given several times)")
	publish := f.String("publish-address", "", "address of ports that are published without one (default all of the host's)")
	most := f.String("max-disk", getenv(api.EnvMaxDisk), "what images may take on disk, for example 20G; those used longest ago that a registry has go first")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.BoolVar(&o.Follow, "follow", false, "take over from the engine that runs, without a connection refused")
	f.BoolVarP(&o.Version, "version", "v", false, "print the version and leave")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, errdefs.Hint(errdefs.New(errdefs.Invalid, "unexpected argument %q", f.Arg(0)), "see laded --help")
	}
	if err := o.LogLevel.UnmarshalText([]byte(level)); err != nil {
		return o, errdefs.New(errdefs.Invalid, "invalid log level %q: use debug, info, warn or error", level)
	}
	if *most != "" {
		n, err := units.RAMInBytes(*most)
		if err != nil || n <= 0 {
			return o, errdefs.New(errdefs.Invalid, "invalid --max-disk %q: want a size, such as 20G", *most)
		}
		o.MaxDisk = n
	}
	for _, p := range *pools {
		r, err := ipam.ParseRange(p)
		if err != nil {
			return o, err
		}
		o.Pools = append(o.Pools, r)
	}
	if *publish != "" {
		a, err := netip.ParseAddr(*publish)
		if err != nil {
			return o, errdefs.New(errdefs.Invalid, "invalid --publish-address %q: want an IP address", *publish)
		}
		if !a.IsUnspecified() {
			o.Publish = a
		}
	}
	return o, o.complete(getenv)
}

// registries returns where it is written how registries are reached: files that
// are shared with podman and docker, and Lade's own.
func (o Options) registries() (config.Paths, config.Certs) {
	shared := filepath.Join(filepath.Dir(o.ConfigDir), "containers")
	certs := config.Certs{filepath.Join(shared, "certs.d"), filepath.Join(o.ConfigDir, "certs.d")}
	if filepath.Dir(o.ConfigDir) == "/etc" {
		certs = append(config.Certs{"/etc/docker/certs.d"}, certs...)
	}
	return config.Paths{Containers: shared, Own: o.ConfigDir}, certs
}

// devices returns where devices are described that containers can have by name.
func (o Options) devices() *cdi.Registry {
	shared := filepath.Join(filepath.Dir(o.ConfigDir), "cdi")
	if filepath.Dir(o.ConfigDir) == "/etc" {
		return cdi.New(shared, "/var/run/cdi")
	}
	return cdi.New(shared)
}

// complete fills in the places and makes them absolute.
func (o *Options) complete(getenv func(string) string) error {
	root := os.Geteuid() == 0
	if o.DataRoot == "" {
		o.DataRoot = "/var/lib/lade"
		if !root {
			base := getenv("XDG_DATA_HOME")
			if base == "" {
				base = filepath.Join(getenv("HOME"), ".local", "share")
			}
			o.DataRoot = filepath.Join(base, "lade")
		}
	}
	if o.StateDir == "" {
		o.StateDir = "/run/lade"
		if !root {
			base := getenv("XDG_RUNTIME_DIR")
			if base == "" {
				return errdefs.Hint(errdefs.New(errdefs.Invalid, "no directory for the engine's state"), "set XDG_RUNTIME_DIR, or give --state-dir")
			}
			o.StateDir = filepath.Join(base, "lade")
		}
	}
	if o.ConfigDir == "" {
		o.ConfigDir = "/etc/lade"
		if !root {
			base := getenv("XDG_CONFIG_HOME")
			if base == "" {
				base = filepath.Join(getenv("HOME"), ".config")
			}
			o.ConfigDir = filepath.Join(base, "lade")
		}
	}
	for _, p := range []*string{&o.DataRoot, &o.StateDir, &o.ConfigDir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if o.Host == "" {
		o.Host = "unix://" + filepath.Join(o.StateDir, "lade.sock")
	}
	_, err := socketPath(o.Host)
	return err
}
