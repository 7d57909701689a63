package ocispec

import (
	"fmt"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
)

// cpuPeriod is the length of the period that --cpus is a share of.
const cpuPeriod = 100000

func resources(s *specs.Spec, in Input) error {
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	r := s.Linux.Resources
	devices(s, in)
	if err := deviceRules(r, in); err != nil {
		return err
	}
	cpu(r, in)
	memory(r, in)
	r.Pids = pids(in.Host)
	return blockIO(r, in)
}

// Limits are the limits that a container can be given while it runs. What it
// may open, and how fast it may read which device, is none of them.
func Limits(h *container.HostConfig, swap bool) *specs.LinuxResources {
	in := Input{Host: h, Machine: Machine{Swap: swap}}
	r := &specs.LinuxResources{Pids: pids(h)}
	cpu(r, in)
	memory(r, in)
	if r.Memory != nil {
		r.Memory.Swappiness, r.Memory.DisableOOMKiller = nil, nil
	}
	if w := h.BlkioWeight; w > 0 {
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	}
	return r
}

func pids(h *container.HostConfig) *specs.LinuxPids {
	n := int64(DefaultPIDs)
	if p := h.PidsLimit; p != nil && *p != 0 { // docker's client sends 0 for "nothing said"
		n = *p
	}
	return &specs.LinuxPids{Limit: &n}
}

func cpu(r *specs.LinuxResources, in Input) {
	h := in.Host
	var c specs.LinuxCPU
	if n := uint64(h.CPUShares); n > 0 {
		c.Shares = &n
	}
	if h.NanoCPUs > 0 {
		period, quota := uint64(cpuPeriod), h.NanoCPUs*cpuPeriod/1e9
		c.Period, c.Quota = &period, &quota
	}
	if n := uint64(h.CPUPeriod); n > 0 {
		c.Period = &n
	}
	if n := h.CPUQuota; n != 0 {
		c.Quota = &n
	}
	if n := uint64(h.CPURealtimePeriod); n > 0 {
		c.RealtimePeriod = &n
	}
	if n := h.CPURealtimeRuntime; n != 0 {
		c.RealtimeRuntime = &n
	}
	c.Cpus, c.Mems = h.CpusetCpus, h.CpusetMems
	if c != (specs.LinuxCPU{}) {
		r.CPU = &c
	}
}

// memory sets the limits. Without a word on swap a container may swap as much
// as it may use of memory, as in Docker.
func memory(r *specs.LinuxResources, in Input) {
	h := in.Host
	var m specs.LinuxMemory
	if n := h.Memory; n > 0 {
		m.Limit = &n
		swap := 2 * n
		if h.MemorySwap != 0 {
			swap = h.MemorySwap
		}
		if in.Machine.Swap {
			m.Swap = &swap
		}
	}
	if n := h.MemoryReservation; n > 0 {
		m.Reservation = &n
	}
	if p := h.MemorySwappiness; p != nil && *p >= 0 {
		n := uint64(*p)
		m.Swappiness = &n
	}
	if p := h.OomKillDisable; p != nil && *p {
		m.DisableOOMKiller = p
	}
	if m != (specs.LinuxMemory{}) {
		r.Memory = &m
	}
}

func devices(s *specs.Spec, in Input) {
	s.Linux.Devices = append(s.Linux.Devices, in.Machine.Devices...)
}

func deviceRules(r *specs.LinuxResources, in Input) error {
	if in.Host.Privileged {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return nil
	}
	perm := map[string]string{}
	for _, d := range in.Host.Devices {
		perm[d.PathInContainer] = d.CgroupPermissions
	}
	for _, d := range in.Machine.Devices {
		access := perm[d.Path]
		if access == "" {
			access = "rwm"
		}
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access})
	}
	for _, text := range in.Host.DeviceCgroupRules {
		rule, err := request.ParseDeviceRule(text)
		if err != nil {
			return err
		}
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: rule.Type, Major: rule.Major, Minor: rule.Minor, Access: rule.Access})
	}
	return nil
}

func blockIO(r *specs.LinuxResources, in Input) error {
	h := in.Host
	var b specs.LinuxBlockIO
	used := false
	if w := h.BlkioWeight; w > 0 {
		b.Weight = &w
		used = true
	}
	number := func(path string) ([2]int64, error) {
		n, ok := in.Machine.BlockDevices[path]
		if !ok {
			return n, errdefs.New(errdefs.Invalid, "%s is not a block device", path)
		}
		used = true
		return n, nil
	}
	for _, d := range h.BlkioWeightDevice {
		n, err := number(d.Path)
		if err != nil {
			return fmt.Errorf("limit I/O: %w", err)
		}
		w := specs.LinuxWeightDevice{Weight: &d.Weight}
		w.Major, w.Minor = n[0], n[1]
		b.WeightDevice = append(b.WeightDevice, w)
	}
	for _, l := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{h.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{h.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{h.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{h.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range l.from {
			n, err := number(d.Path)
			if err != nil {
				return fmt.Errorf("limit I/O: %w", err)
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = n[0], n[1]
			*l.to = append(*l.to, t)
		}
	}
	if used {
		r.BlockIO = &b
	}
	return nil
}
