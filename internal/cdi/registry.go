package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// Registry is the directories that vendors describe devices in.
type Registry struct {
	dirs []string // those that count more come later
}

// New returns a registry. Directories that are not there hold nothing.
func New(dirs ...string) *Registry { return &Registry{dirs} }

// Dirs returns the directories.
func (r *Registry) Dirs() []string {
	if r == nil {
		return []string{}
	}
	return slices.Clone(r.dirs)
}

// Devices is what the files described when they were read.
type Devices struct {
	byName map[string]entry
	// wrong says what is the matter with files and names that do not count.
	wrong []error
}

type entry struct {
	file   *file
	device *device
}

// Load reads all files.
func (r *Registry) Load() *Devices {
	d := &Devices{byName: map[string]entry{}}
	for _, dir := range r.Dirs() {
		maps.Copy(d.byName, d.loadDir(dir))
	}
	return d
}

// loadDir reads the files of a directory. What two of them describe is left out.
func (d *Devices) loadDir(dir string) map[string]entry {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.wrong = append(d.wrong, err)
	}
	here, from := map[string]entry{}, map[string]string{}
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); f.IsDir() || ext != ".json" && ext != ".yaml" {
			continue
		}
		path := filepath.Join(dir, f.Name())
		description, err := read(path)
		if err != nil {
			d.wrong = append(d.wrong, fmt.Errorf("%s: %w", path, err))
			continue
		}
		for i := range description.Devices {
			dev := &description.Devices[i]
			name := description.Kind + "=" + dev.Name
			if first, ok := from[name]; ok {
				d.wrong = append(d.wrong, fmt.Errorf("%s is in %s and in %s", name, first, path))
				delete(here, name)
				continue
			}
			from[name], here[name] = path, entry{description, dev}
		}
	}
	// A name that two files claim hides what an earlier directory has, too.
	for name := range from {
		if _, ok := here[name]; !ok {
			delete(d.byName, name)
		}
	}
	return here
}

// Names returns the names of all devices in order.
func (d *Devices) Names() []string { return slices.Sorted(maps.Keys(d.byName)) }

// Wrong returns what is the matter with files that do not count.
func (d *Devices) Wrong() []error { return d.wrong }

// find returns devices by their names, or says which there are not.
func (d *Devices) find(names []string) ([]entry, error) {
	var found []entry
	var unknown []string
	for _, n := range names {
		if _, _, err := SplitName(n); err != nil {
			return nil, err
		}
		e, ok := d.byName[n]
		if !ok {
			unknown = append(unknown, n)
			continue
		}
		found = append(found, e)
	}
	if len(unknown) == 0 {
		return found, nil
	}
	err := errdefs.New(errdefs.Invalid, "CDI device injection failed: unresolvable CDI devices %s", strings.Join(unknown, ", "))
	switch all := d.Names(); {
	case len(d.wrong) > 0:
		return nil, errdefs.Hint(err, "%s", errors.Join(d.wrong...))
	case len(all) > 0:
		return nil, errdefs.Hint(err, "there are %s", strings.Join(all[:min(len(all), 10)], ", "))
	}
	return nil, errdefs.Hint(err, "no device is described; a vendor's tool does that, such as nvidia-ctk cdi generate")
}

// Requested returns the names of the devices that requests mean. GPUs are those
// of kind nvidia.com/gpu, amd.com/gpu or another vendor's class gpu.
func (d *Devices) Requested(requests []container.DeviceRequest) ([]string, error) {
	var names []string
	for _, r := range requests {
		if r.Driver == "cdi" && len(r.Capabilities) == 0 {
			if r.Count != 0 {
				return nil, errdefs.New(errdefs.Invalid, "invalid count %d in CDI device request", r.Count)
			}
			names = append(names, r.DeviceIDs...)
			continue
		}
		some, err := d.gpus(r)
		if err != nil {
			return nil, err
		}
		names = append(names, some...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// gpus returns the devices of a request for GPUs: some by their names or
// numbers, the first of them, or all (-1).
func (d *Devices) gpus(r container.DeviceRequest) ([]string, error) {
	kind, all := d.gpuKind(r.Driver)
	wanted := slices.Contains(slices.Concat(r.Capabilities...), "gpu")
	if kind == "" || !wanted {
		err := errdefs.New(errdefs.Invalid, "could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
		return nil, errdefs.Hint(err, "GPUs are found by their CDI description: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")
	}
	var names []string
	switch {
	case len(r.DeviceIDs) > 0 && r.Count != 0:
		return nil, errdefs.New(errdefs.Invalid, "cannot set both Count and DeviceIDs on device request")
	case len(r.DeviceIDs) > 0:
		for _, id := range r.DeviceIDs {
			names = append(names, strings.TrimPrefix(id, kind+"="))
		}
	case r.Count < 0 && slices.Contains(all, "all"):
		names = []string{"all"}
	case r.Count < 0:
		names = all
	default:
		for i := range r.Count {
			names = append(names, strconv.Itoa(i))
		}
	}
	for i := range names {
		names[i] = kind + "=" + names[i]
	}
	return names, nil
}

// gpuKind returns the kind of the GPUs of a driver, and the names of them all.
func (d *Devices) gpuKind(driver string) (kind string, names []string) {
	byKind := map[string][]string{}
	for _, n := range d.Names() {
		k, name, _ := strings.Cut(n, "=")
		if vendor, class, _ := strings.Cut(k, "/"); class == "gpu" && (driver == "" || driver == "cdi" || vendor == driver || strings.HasPrefix(vendor, driver+".")) {
			byKind[k] = append(byKind[k], name)
		}
	}
	for _, k := range append([]string{"nvidia.com/gpu", "amd.com/gpu"}, slices.Sorted(maps.Keys(byKind))...) {
		if byKind[k] != nil {
			return k, byKind[k]
		}
	}
	return "", nil
}
