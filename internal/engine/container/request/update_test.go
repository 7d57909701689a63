package request

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
)

func TestUpdate(t *testing.T) {
	limited := api.HostConfig{Resources: api.Resources{Memory: 64 << 20, MemorySwap: 128 << 20, CPUShares: 512}}
	tests := []struct {
		name   string
		have   api.HostConfig
		change func(*api.UpdateConfig)
		want   func(*api.HostConfig) // what is to become of have
		err    string
	}{
		{name: "nothing", have: limited, change: func(*api.UpdateConfig) {}, want: func(*api.HostConfig) {}},
		{
			name: "memory", have: limited, change: func(u *api.UpdateConfig) { u.Memory, u.MemorySwap = 256<<20, -1 },
			want: func(h *api.HostConfig) { h.Memory, h.MemorySwap = 256<<20, -1 },
		},
		{
			name: "restart", have: limited, change: func(u *api.UpdateConfig) { u.RestartPolicy.Name = "always" },
			want: func(h *api.HostConfig) { h.RestartPolicy.Name = "always" },
		},
		{
			name: "pids", change: func(u *api.UpdateConfig) { u.PidsLimit = new(int64(-1)) },
			want: func(h *api.HostConfig) { h.PidsLimit = new(int64(-1)) },
		},
		{name: "above the swap", have: limited, change: func(u *api.UpdateConfig) { u.Memory = 256 << 20 }, err: "update the memoryswap at the same time"},
		{name: "too little", have: limited, change: func(u *api.UpdateConfig) { u.Memory = 1 << 20 }, err: "6MB"},
		{name: "negative", have: limited, change: func(u *api.UpdateConfig) { u.CPUShares = -1 }, err: "negative"},
		{name: "swap alone", change: func(u *api.UpdateConfig) { u.MemorySwap = 1 << 30 }, err: "always set the Memory limit"},
		{
			name: "cpus over a quota", have: api.HostConfig{Resources: api.Resources{CPUQuota: 5000}},
			change: func(u *api.UpdateConfig) { u.NanoCPUs = 1e9 }, err: "CPU Quota has already been set",
		},
		{
			name: "a period under cpus", have: api.HostConfig{Resources: api.Resources{NanoCPUs: 1e9}},
			change: func(u *api.UpdateConfig) { u.CPUPeriod = 50000 }, err: "NanoCPUs has already been set",
		},
		{name: "processors that are not there", change: func(u *api.UpdateConfig) { u.CpusetCpus = "0-9" }, err: "not available"},
		{name: "weight", change: func(u *api.UpdateConfig) { u.BlkioWeight = 5 }, err: "blkio weight"},
		{name: "policy", change: func(u *api.UpdateConfig) { u.RestartPolicy.Name = "sometimes" }, err: "invalid restart policy"},
		{
			name: "policy of what goes", have: api.HostConfig{AutoRemove: true},
			change: func(u *api.UpdateConfig) { u.RestartPolicy.Name = "always" }, err: "AutoRemove",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.have
			var u api.UpdateConfig
			tt.change(&u)
			got, err := Update(&tt.have, u, 4)
			if diff := cmp.Diff(before, tt.have); diff != "" {
				t.Errorf("what it was given has changed: %s", diff)
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tt.want(&before)
			if diff := cmp.Diff(&before, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
