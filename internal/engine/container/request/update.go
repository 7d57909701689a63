package request

import (
	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// Update returns a host configuration with what u names in the place of what it
// had, or says why that cannot be. What is zero in u stays as it is.
func Update(h *api.HostConfig, u api.UpdateConfig, cpus int) (*api.HostConfig, error) {
	out := *h
	if err := updateRestart(&out, u.RestartPolicy); err != nil {
		return nil, err
	}
	if err := checkConflicts(h.Resources, u.Resources); err != nil {
		return nil, err
	}
	r := &out.Resources
	put(&r.CPUShares, u.CPUShares)
	put(&r.NanoCPUs, u.NanoCPUs)
	put(&r.CPUPeriod, u.CPUPeriod)
	put(&r.CPUQuota, u.CPUQuota)
	put(&r.CPURealtimePeriod, u.CPURealtimePeriod)
	put(&r.CPURealtimeRuntime, u.CPURealtimeRuntime)
	put(&r.CpusetCpus, u.CpusetCpus)
	put(&r.CpusetMems, u.CpusetMems)
	put(&r.Memory, u.Memory)
	put(&r.MemorySwap, u.MemorySwap)
	put(&r.MemoryReservation, u.MemoryReservation)
	put(&r.BlkioWeight, u.BlkioWeight)
	put(&r.PidsLimit, u.PidsLimit)
	return &out, checkResources(r, cpus)
}

func put[T comparable](to *T, v T) {
	var none T
	if v != none {
		*to = v
	}
}

func updateRestart(h *api.HostConfig, p api.RestartPolicy) error {
	if p.Name == "" {
		return nil
	}
	if err := api.ValidateRestartPolicy(p); err != nil {
		return errdefs.With(errdefs.Invalid, err)
	}
	if h.AutoRemove && !p.IsNone() {
		return errdefs.New(errdefs.Conflict, "Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	h.RestartPolicy = p
	return nil
}

// checkConflicts refuses what contradicts what the container has been given and
// keeps: the same share of the processors said in two ways, or a limit of
// memory above that of memory and swap together.
func checkConflicts(have, want api.Resources) error {
	conflict := func(why string) error { return errdefs.New(errdefs.Conflict, "%s", why) }
	switch {
	case want.NanoCPUs > 0 && have.CPUPeriod > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case want.NanoCPUs > 0 && have.CPUQuota > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case want.CPUPeriod > 0 && have.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case want.CPUQuota > 0 && have.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case want.Memory > 0 && have.MemorySwap > 0 && want.MemorySwap == 0 && want.Memory > have.MemorySwap:
		return conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return nil
}
