package daemon

import (
	api "github.com/moby/moby/api/types/system"

	"lade/internal/cdi"
)

// describedDevices is what info shows of devices that have names.
func describedDevices(r *cdi.Registry) ([]string, func() ([]api.DeviceInfo, []error)) {
	return r.Dirs(), func() ([]api.DeviceInfo, []error) {
		known := r.Load()
		list := []api.DeviceInfo{}
		for _, n := range known.Names() {
			list = append(list, api.DeviceInfo{Source: "cdi", ID: n})
		}
		return list, known.Wrong()
	}
}
