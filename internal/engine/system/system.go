// Package system is the engine's noun "system": what the engine and its host
// are.
package system

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	container "github.com/moby/moby/api/types/container"
	api "github.com/moby/moby/api/types/system"

	"lade/internal/errdefs"
	"lade/internal/version"
)

// Counts is how many containers there are.
type Counts struct{ Running, Paused, Stopped int }

// Config is what a Service is made of.
type Config struct {
	ID       string // of this engine; stays over restarts
	DataDir  string
	Init     string // name of the init program
	Runtimes map[string]string
	Default  string // runtime
	// Layers says in which form layers are on disk, and why.
	Layers, LayersWhy string
	CgroupVersion     string
	UserNamespaces    bool
	// CDIDirs are where devices are described, and Devices those that are; both
	// with what is wrong there.
	CDIDirs    []string
	Devices    func() ([]api.DeviceInfo, []error)
	Containers func(context.Context) (Counts, error)
	Images     func(context.Context) (int, error)
}

// Service answers questions about the engine and its host.
type Service struct{ cfg Config }

// New makes the service.
func New(cfg Config) *Service { return &Service{cfg} }

// Version returns which engine this is, and on which kernel. The versions of
// the API are for the protocol to fill in.
func (s *Service) Version(context.Context) (api.VersionResponse, error) {
	kernel := kernelRelease()
	return api.VersionResponse{
		Platform: api.PlatformInfo{Name: "Lade"},
		Version:  version.Version, Os: "linux", Arch: runtime.GOARCH,
		GitCommit: version.Revision(), GoVersion: runtime.Version(), KernelVersion: kernel,
		Components: []api.ComponentVersion{{
			Name: "Engine", Version: version.Version,
			Details: map[string]string{"GitCommit": version.Revision(), "GoVersion": runtime.Version(), "KernelVersion": kernel, "Os": "linux", "Arch": runtime.GOARCH},
		}},
	}, nil
}

// Info returns the state of the engine and of its host.
func (s *Service) Info(ctx context.Context) (api.Info, error) {
	counts, err := s.cfg.Containers(ctx)
	if err != nil {
		return api.Info{}, err
	}
	images, err := s.cfg.Images(ctx)
	if err != nil && !errdefs.Is(err, errdefs.NotImplemented) {
		return api.Info{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return api.Info{}, err
	}
	name, osVersion := osRelease("/etc/os-release")
	info := api.Info{
		ID: s.cfg.ID, Name: host, ServerVersion: version.Version,
		Containers:        counts.Running + counts.Paused + counts.Stopped,
		ContainersRunning: counts.Running, ContainersPaused: counts.Paused, ContainersStopped: counts.Stopped,
		Images: images, Driver: "lade", DriverStatus: [][2]string{{"Layers", s.cfg.Layers}, {"Reason", s.cfg.LayersWhy}},
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		IPv4Forwarding: forwarding(), OomKillDisable: s.cfg.CgroupVersion == "1",
		NFd: countFiles(), NGoroutines: runtime.NumGoroutine(), SystemTime: time.Now().Format(time.RFC3339Nano),
		LoggingDriver: "local", CgroupDriver: "cgroupfs", CgroupVersion: s.cfg.CgroupVersion,
		KernelVersion: kernelRelease(), OperatingSystem: name, OSVersion: osVersion, OSType: "linux", Architecture: machine(),
		IndexServerAddress: "https://index.docker.io/v1/", NCPU: runtime.NumCPU(), MemTotal: memTotal(), DockerRootDir: s.cfg.DataDir,
		HTTPProxy: os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"),
		Runtimes: map[string]api.RuntimeWithStatus{}, DefaultRuntime: s.cfg.Default, LiveRestoreEnabled: true,
		InitBinary: s.cfg.Init, SecurityOptions: []string{"name=seccomp,profile=builtin", "name=cgroupns"}, CDISpecDirs: s.cfg.CDIDirs, Labels: []string{}, Warnings: []string{},
		Isolation: container.IsolationEmpty,
	}
	var wrong []error
	if info.DiscoveredDevices, wrong = s.cfg.Devices(); len(wrong) > 0 {
		for _, err := range wrong {
			info.Warnings = append(info.Warnings, "WARNING: CDI: "+err.Error())
		}
	}
	info.Plugins.Network = []string{"bridge", "host", "none"}
	info.Plugins.Volume, info.Plugins.Log = []string{}, []string{"journald", "json-file", "local", "none", "syslog"}
	info.Swarm.LocalNodeState = "inactive"
	if s.cfg.UserNamespaces {
		info.SecurityOptions = append(info.SecurityOptions, "name=userns")
	}
	for name, path := range s.cfg.Runtimes {
		info.Runtimes[name] = api.RuntimeWithStatus{Runtime: api.Runtime{Path: path}}
	}
	return info, nil
}

func kernelRelease() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(raw))
}

func forwarding() bool {
	raw, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return strings.TrimSpace(string(raw)) == "1"
}

func countFiles() int {
	f, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(f)
}

// machine is the architecture in the kernel's words, as Docker shows it.
func machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	default:
		return runtime.GOARCH
	}
}

func memTotal() int64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(raw) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// osRelease returns the system's name and version as os-release(5) has them.
func osRelease(path string) (name, ver string) {
	name = "Linux"
	f, err := os.Open(path)
	if err != nil {
		return name, ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		k, v, _ := strings.Cut(s.Text(), "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "PRETTY_NAME":
			name = v
		case "VERSION_ID":
			ver = v
		}
	}
	return name, ver
}
