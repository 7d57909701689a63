package request

import (
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// RegisterUpdate adds the flags of `update`, which write into u.
func RegisterUpdate(fs *pflag.FlagSet, u *container.UpdateConfig) {
	r := &u.Resources
	fs.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, `Block IO (relative weight), between 10 and 1000, or 0 to disable`)
	registerCPU(fs, r)
	registerMemory(fs, r)
	optional(fs, &r.PidsLimit, "pids-limit", "Tune container pids limit (set -1 for unlimited)", parseInt64)
	fs.Var(&value{kind: "string", set: into(&u.RestartPolicy, restartPolicy)}, "restart", "Restart policy to apply when a container exits")
}

func registerMemory(fs *pflag.FlagSet, r *container.Resources) {
	fs.VarP(&value{kind: "bytes", set: into(&r.Memory, byteSize)}, "memory", "m", "Memory limit")
	fs.Var(&value{kind: "bytes", set: into(&r.MemorySwap, bytesOrUnlimited)}, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	fs.Var(&value{kind: "bytes", set: into(&r.MemoryReservation, byteSize)}, "memory-reservation", "Memory soft limit")
}

func registerCPU(fs *pflag.FlagSet, r *container.Resources) {
	fs.Var(&value{kind: "decimal", set: into(&r.NanoCPUs, nanoCPUs)}, "cpus", "Number of CPUs")
	fs.Int64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	fs.Int64Var(&r.CPUPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	fs.Int64Var(&r.CPUQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	fs.StringVar(&r.CpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	fs.StringVar(&r.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	fs.Int64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "Limit CPU real-time period in microseconds")
	fs.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Limit CPU real-time runtime in microseconds")
}
