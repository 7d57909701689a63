package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestMerge asserts that an update leaves alone what it does not name, and
// carries what must be set together.
func TestMerge(t *testing.T) {
	all := &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Quota: new(int64(500000)), Period: new(uint64(1000000)), Shares: new(uint64(100))},
		Memory: &specs.LinuxMemory{Limit: new(int64(1 << 25)), Swap: new(int64(1 << 26))},
		BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{
			throttle(0, 1), throttle(16, 2),
		}},
	}
	for _, tt := range []struct {
		name    string
		r, want specs.LinuxResources
	}{
		{
			"a period keeps its quota",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(900000))}},
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(500000)), Period: new(uint64(900000)), Shares: new(uint64(100))}},
		},
		{
			"what is idle has no shares",
			specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: new(int64(1))}},
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(500000)), Period: new(uint64(900000)), Idle: new(int64(1))}},
		},
		{
			"no limit of memory, none of the sum",
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(-1))}},
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(-1))}},
		},
		{
			"empty sections change nothing",
			specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, Pids: &specs.LinuxPids{}},
			specs.LinuxResources{},
		},
		{
			"device rules stay",
			specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true}}},
			specs.LinuxResources{},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(&tt.want, merge(all, &tt.r)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
	merge(all, &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle(0, 9)}}})
	want := []specs.LinuxThrottleDevice{throttle(16, 2), throttle(0, 9)}
	if d := cmp.Diff(want, all.BlockIO.ThrottleReadBpsDevice); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func throttle(minor int64, rate uint64) specs.LinuxThrottleDevice {
	d := specs.LinuxThrottleDevice{Rate: rate}
	d.Major, d.Minor = 8, minor
	return d
}
