package system

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"

	"lade/client"
	"lade/internal/version"
)

// writeDevices writes which devices containers can have by names.
func writeDevices(b *strings.Builder, i system.Info) {
	if len(i.CDISpecDirs) > 0 {
		fmt.Fprintf(b, " CDI spec directories:\n  %s\n", strings.Join(i.CDISpecDirs, "\n  "))
	}
	if len(i.DiscoveredDevices) > 0 {
		b.WriteString(" Discovered Devices:\n")
		for _, d := range i.DiscoveredDevices {
			fmt.Fprintf(b, "  %s: %s\n", d.Source, d.ID)
		}
	}
}

// writeInfo writes what the engine says of itself, in Docker's words. Lines
// that it says nothing for are left out.
func writeInfo(w io.Writer, i system.Info) error {
	var b strings.Builder
	line := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "[]" {
			fmt.Fprintf(&b, " %s: %s\n", name, s)
		}
	}
	b.WriteString("Client:\n")
	line("Version", version.Version)
	line("API version", client.APIVersion)
	b.WriteString("\nServer:\n")
	line("Containers", i.Containers)
	line(" Running", i.ContainersRunning)
	line(" Paused", i.ContainersPaused)
	line(" Stopped", i.ContainersStopped)
	line("Images", i.Images)
	line("Server Version", i.ServerVersion)
	line("Storage Driver", i.Driver)
	for _, s := range i.DriverStatus {
		line(" "+s[0], s[1])
	}
	line("Logging Driver", i.LoggingDriver)
	line("Cgroup Driver", i.CgroupDriver)
	line("Cgroup Version", i.CgroupVersion)
	line("Runtimes", strings.Join(slices.Sorted(maps.Keys(i.Runtimes)), " "))
	line("Default Runtime", i.DefaultRuntime)
	if len(i.SecurityOptions) > 0 {
		b.WriteString(" Security Options:\n")
		for _, o := range i.SecurityOptions {
			for n, part := range strings.Split(strings.TrimPrefix(o, "name="), ",") {
				fmt.Fprintf(&b, "%*s%s\n", 2+min(n, 1), "", strings.Replace(part, "=", ": ", 1))
			}
		}
	}
	writeDevices(&b, i)
	line("Kernel Version", i.KernelVersion)
	line("Operating System", i.OperatingSystem)
	line("OSType", i.OSType)
	line("Architecture", i.Architecture)
	line("CPUs", i.NCPU)
	line("Total Memory", units.BytesSize(float64(i.MemTotal)))
	line("Name", i.Name)
	line("ID", i.ID)
	line("Lade Root Dir", i.DockerRootDir)
	_, err := io.WriteString(w, b.String())
	return err
}
