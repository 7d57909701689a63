package request

import (
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// registerBlockIO adds the flags that limit the use of block devices.
func registerBlockIO(fs *pflag.FlagSet, r *container.Resources) {
	fs.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable")
	fs.Var(&value{kind: "list", set: appendTo(&r.BlkioWeightDevice, weightDevice)}, "blkio-weight-device", "Block IO weight (relative device weight)")
	for _, l := range []struct {
		name, usage string
		to          *[]*blkiodev.ThrottleDevice
		parse       func(string) (uint64, error)
	}{
		{"device-read-bps", "Limit read rate (bytes per second) from a device", &r.BlkioDeviceReadBps, bytesRate},
		{"device-write-bps", "Limit write rate (bytes per second) to a device", &r.BlkioDeviceWriteBps, bytesRate},
		{"device-read-iops", "Limit read rate (IO per second) from a device", &r.BlkioDeviceReadIOps, operationsRate},
		{"device-write-iops", "Limit write rate (IO per second) to a device", &r.BlkioDeviceWriteIOps, operationsRate},
	} {
		fs.Var(&value{kind: "list", set: appendTo(l.to, func(s string) (*blkiodev.ThrottleDevice, error) {
			path, text, err := blockDevice(s)
			if err != nil {
				return nil, err
			}
			rate, err := l.parse(text)
			if err != nil {
				return nil, invalid("invalid rate for device: %s: %w", s, err)
			}
			return &blkiodev.ThrottleDevice{Path: path, Rate: rate}, nil
		})}, l.name, l.usage)
	}
}

// blockDevice splits DEVICE:VALUE.
func blockDevice(s string) (path, val string, err error) {
	path, val, ok := strings.Cut(s, ":")
	if !ok || !strings.HasPrefix(path, "/dev/") || val == "" {
		return "", "", invalid("bad format: %s: want a device and a number, such as /dev/sda:100", s)
	}
	return path, val, nil
}

func weightDevice(s string) (*blkiodev.WeightDevice, error) {
	path, text, err := blockDevice(s)
	if err != nil {
		return nil, err
	}
	w, err := strconv.ParseUint(text, 10, 16)
	if err != nil || w != 0 && (w < 10 || w > 1000) {
		return nil, invalid("invalid weight for device: %s: want 10 to 1000", s)
	}
	return &blkiodev.WeightDevice{Path: path, Weight: uint16(w)}, nil
}

func bytesRate(s string) (uint64, error) {
	n, err := units.RAMInBytes(s)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return uint64(n), err
}

func operationsRate(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
