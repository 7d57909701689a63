// Package request turns the flags of `run` and `create`, which are Docker's,
// into the engine's create request.
//
// Each flag writes straight into the wire type it belongs to; what needs more
// than one flag, a file or the environment is put together by Flags.Request.
// The client checks the form of a value, so that a typing error is found before
// anything is created; whether a value makes sense is for the engine to say.
package request

import (
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"
)

// Flags are the flags of a container. The zero value is ready for Register.
type Flags struct {
	Name, Platform string

	config   container.Config
	host     container.HostConfig
	networks map[string]*network.EndpointSettings
	place    placeFlags // of the first network

	attach               []string
	env, envFiles        []string
	labels, labelFiles   []string
	volumes, securityOpt []string
	entrypoint           string
	health               container.HealthConfig
	healthCmd            string
	onUnhealthy          string
	dependsOn            []string
	noHealth             bool
	readFile             func(string) ([]byte, error) // os.ReadFile, but in tests
}

// Register adds the flags to a set.
func (f *Flags) Register(fs *pflag.FlagSet) {
	f.readFile = os.ReadFile
	f.networks = map[string]*network.EndpointSettings{}
	fs.SetInterspersed(false) // what follows the image belongs to the container
	f.registerProcess(fs)
	f.registerFiles(fs)
	f.registerSecurity(fs)
	f.registerResources(fs)
	f.registerNetwork(fs)
	f.registerLegacy(fs)
}

func (f *Flags) registerProcess(fs *pflag.FlagSet) {
	c, h := &f.config, &f.host
	fs.StringVar(&f.Name, "name", "", "Assign a name to the container")
	fs.StringVar(&f.Platform, "platform", "", "Set platform if server is multi-platform capable")
	list(fs, &f.attach, "attach,a", "Attach to STDIN, STDOUT or STDERR", stream)
	fs.BoolVarP(&c.OpenStdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	fs.BoolVarP(&c.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	fs.BoolVar(&h.AutoRemove, "rm", false, "Automatically remove the container and its associated anonymous volumes when it exits")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	list(fs, &f.env, "env,e", "Set environment variables", environment)
	list(fs, &f.envFiles, "env-file", "Read in a file of environment variables", nil)
	fs.StringVarP(&c.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	fs.StringVarP(&c.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	list(fs, &h.GroupAdd, "group-add", "Add additional groups to join", nil)
	list(fs, &f.labels, "label,l", "Set meta data on a container", label)
	list(fs, &f.labelFiles, "label-file", "Read in a line delimited file of labels", nil)
	pairs(fs, &h.Annotations, "annotation", "Add an annotation to the container (passed through to the OCI runtime)")
	fs.Var(&value{kind: "signal", set: into(&c.StopSignal, signalName)}, "stop-signal", "Signal to stop the container")
	optional(fs, &c.StopTimeout, "stop-timeout", "Timeout (in seconds) to stop a container", parseInt)
	fs.Var(&value{kind: "string", set: into(&h.RestartPolicy, restartPolicy), shown: "no"}, "restart", "Restart policy to apply when a container exits")
	list(fs, &f.dependsOn, "depends-on", `Start another container first, and wait until it is "started", "healthy" or "completed" (NAME[:CONDITION])`, nil)
	f.registerHealth(fs)
	optionalBool(fs, &h.Init, "init", "Run an init inside the container that forwards signals and reaps processes")
	fs.StringVar(&h.Runtime, "runtime", "", "Runtime to use for this container")
	fs.StringVar(&h.LogConfig.Type, "log-driver", "", "Logging driver for the container")
	pairs(fs, &h.LogConfig.Config, "log-opt", "Log driver options")
}

func (f *Flags) registerHealth(fs *pflag.FlagSet) {
	h := &f.health
	fs.StringVar(&f.healthCmd, "health-cmd", "", "Command to run to check health")
	fs.DurationVar(&h.Interval, "health-interval", 0, "Time between running the check (ms|s|m|h) (default 0s)")
	fs.DurationVar(&h.Timeout, "health-timeout", 0, "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
	fs.IntVar(&h.Retries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	fs.DurationVar(&h.StartPeriod, "health-start-period", 0, "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)")
	fs.DurationVar(&h.StartInterval, "health-start-interval", 0, "Time between running the check during the start period (ms|s|m|h) (default 0s)")
	fs.BoolVar(&f.noHealth, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")
	fs.StringVar(&f.onUnhealthy, "on-unhealthy", "", `What to do when the container becomes unhealthy ("restart", "stop", "none")`)
}

func (f *Flags) registerFiles(fs *pflag.FlagSet) {
	h := &f.host
	list(fs, &f.volumes, "volume,v", "Bind mount a volume", volume)
	fs.Var(&value{kind: "mount", set: appendTo(&h.Mounts, parseMount)}, "mount", "Attach a filesystem mount to the container")
	fs.Var(&value{kind: "list", set: f.addTmpfs}, "tmpfs", "Mount a tmpfs directory")
	list(fs, &h.VolumesFrom, "volumes-from", "Mount volumes from the specified container(s)", nil)
	fs.BoolVar(&h.ReadonlyRootfs, "read-only", false, "Mount the container's root filesystem as read only")
	fs.Var(&value{kind: "bytes", set: into(&h.ShmSize, byteSize)}, "shm-size", "Size of /dev/shm")
	fs.Var(&value{kind: "list", set: f.addDevice}, "device", "Add a host device to the container: a path, or the name of a CDI device")
	fs.Var(&value{kind: "gpu-request", set: appendTo(&h.DeviceRequests, gpus)}, "gpus", "GPU devices to add to the container ('all' to pass all GPUs)")
	list(fs, &h.DeviceCgroupRules, "device-cgroup-rule", "Add a rule to the cgroup allowed devices list", deviceRule)
	fs.StringVar(&h.VolumeDriver, "volume-driver", "", "Optional volume driver for the container")
	pairs(fs, &h.StorageOpt, "storage-opt", "Storage driver options for the container")
}

func (f *Flags) registerSecurity(fs *pflag.FlagSet) {
	h := &f.host
	list(fs, &h.CapAdd, "cap-add", "Add Linux capabilities", nil)
	list(fs, &h.CapDrop, "cap-drop", "Drop Linux capabilities", nil)
	list(fs, &f.securityOpt, "security-opt", "Security Options", nil)
	fs.BoolVar(&h.Privileged, "privileged", false, "Give extended privileges to this container")
	fs.Var(&value{kind: "string", set: mode(&h.UsernsMode)}, "userns", "User namespace to use")
	fs.Var(&value{kind: "string", set: mode(&h.IpcMode)}, "ipc", "IPC mode to use")
	fs.Var(&value{kind: "string", set: mode(&h.PidMode)}, "pid", "PID namespace to use")
	fs.Var(&value{kind: "string", set: mode(&h.UTSMode)}, "uts", "UTS namespace to use")
	fs.Var(&value{kind: "string", set: mode(&h.CgroupnsMode)}, "cgroupns", "Cgroup namespace to use (host|private)")
	fs.StringVar(&h.CgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	pairs(fs, &h.Sysctls, "sysctl", "Sysctl options")
}

func (f *Flags) registerResources(fs *pflag.FlagSet) {
	r := &f.host.Resources
	registerMemory(fs, r)
	optional(fs, &r.MemorySwappiness, "memory-swappiness", "Tune container memory swappiness (0 to 100)", parseInt64)
	registerCPU(fs, r)
	registerBlockIO(fs, r)
	optional(fs, &r.PidsLimit, "pids-limit", "Tune container pids limit (set -1 for unlimited)", parseInt64)
	fs.Var(&value{kind: "ulimit", set: f.addUlimit}, "ulimit", "Ulimit options")
	optionalBool(fs, &r.OomKillDisable, "oom-kill-disable", "Disable OOM Killer")
	fs.IntVar(&f.host.OomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
}

func (f *Flags) registerNetwork(fs *pflag.FlagSet) {
	c, h := &f.config, &f.host
	fs.Var(&value{kind: "network", set: f.addNetwork}, "network", "Connect a container to a network")
	fs.Var(&value{kind: "network", set: f.addNetwork}, "net", "Connect a container to a network")
	fs.Lookup("net").Hidden = true
	fs.StringVarP(&c.Hostname, "hostname", "h", "", "Container host name")
	fs.StringVar(&c.Domainname, "domainname", "", "Container NIS domain name")
	fs.Var(&value{kind: "list", set: appendTo(&h.ExtraHosts, extraHost)}, "add-host", "Add a custom host-to-IP mapping (host:ip)")
	fs.Var(&value{kind: "list", set: appendTo(&h.DNS, address)}, "dns", "Set custom DNS servers")
	list(fs, &h.DNSSearch, "dns-search", "Set custom DNS search domains", nil)
	list(fs, &h.DNSOptions, "dns-option", "Set DNS options", nil)
	list(fs, &h.DNSOptions, "dns-opt", "Set DNS options", nil)
	fs.Lookup("dns-opt").Hidden = true
	fs.Var(&value{kind: "list", set: f.addExposed}, "expose", "Expose a port or a range of ports")
	fs.VarP(&value{kind: "list", set: f.addPublished}, "publish", "p", "Publish a container's port(s) to the host")
	fs.BoolVarP(&h.PublishAllPorts, "publish-all", "P", false, "Publish all exposed ports to random ports")
	fs.Var(&value{kind: "ip", set: into(&f.place.ip4, address)}, "ip", "IPv4 address (e.g., 172.30.100.104)")
	fs.Var(&value{kind: "ip", set: into(&f.place.ip6, address)}, "ip6", "IPv6 address (e.g., 2001:db8::33)")
	fs.Var(&value{kind: "list", set: appendTo(&f.place.linkLocal, address)}, "link-local-ip", "Container IPv4/IPv6 link-local addresses")
	fs.Var(&value{kind: "mac", set: into(&f.place.mac, hardware)}, "mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	list(fs, &f.place.aliases, "network-alias", "Add network-scoped alias for the container", nil)
	list(fs, &f.place.aliases, "net-alias", "Add network-scoped alias for the container", nil)
	fs.Lookup("net-alias").Hidden = true
}

// PseudoTTY reports whether the process gets a terminal.
func (f *Flags) PseudoTTY() bool { return f.config.Tty }

// Interactive reports whether its input stays open.
func (f *Flags) Interactive() bool { return f.config.OpenStdin }

// Attached returns which streams -a names.
func (f *Flags) Attached() (stdin, stdout, stderr, any bool) {
	has := func(name string) bool {
		for _, a := range f.attach {
			if strings.EqualFold(a, name) {
				return true
			}
		}
		return false
	}
	return has("stdin"), has("stdout"), has("stderr"), len(f.attach) > 0
}
