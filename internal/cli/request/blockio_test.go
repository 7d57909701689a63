package request

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

func TestBlockIO(t *testing.T) {
	var got container.Resources
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	registerBlockIO(fs, &got)
	err := fs.Parse([]string{
		"--blkio-weight", "20", "--blkio-weight-device", "/dev/sda:30", "--device-read-bps=/dev/sda:1mb", "--device-write-bps", "/dev/sda:2k",
		"--device-read-iops", "/dev/sda:100", "--device-write-iops", "/dev/sda:200", "--device-write-iops", "/dev/sdb:1",
	})
	if err != nil {
		t.Fatal(err)
	}
	rate := func(path string, n uint64) *blkiodev.ThrottleDevice {
		return &blkiodev.ThrottleDevice{Path: path, Rate: n}
	}
	want := container.Resources{
		BlkioWeight: 20, BlkioWeightDevice: []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 30}},
		BlkioDeviceReadBps:   []*blkiodev.ThrottleDevice{rate("/dev/sda", 1<<20)},
		BlkioDeviceWriteBps:  []*blkiodev.ThrottleDevice{rate("/dev/sda", 2048)},
		BlkioDeviceReadIOps:  []*blkiodev.ThrottleDevice{rate("/dev/sda", 100)},
		BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{rate("/dev/sda", 200), rate("/dev/sdb", 1)},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, bad := range []string{
		"--blkio-weight-device=/dev/sda:9", "--blkio-weight-device=/dev/sda", "--blkio-weight-device=sda:20", "--device-read-bps=/dev/sda:-1",
		"--device-read-bps=/dev/sda:fast", "--device-read-iops=/dev/sda:1k", "--device-write-iops=/dev/sda:",
	} {
		if err := fs.Parse([]string{bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
