package cdi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"lade/internal/errdefs"
)

// file is a description of the devices of one kind.
type file struct {
	Version     string            `json:"cdiVersion"`
	Kind        string            `json:"kind"` // vendor.com/class
	Annotations map[string]string `json:"annotations"`
	Devices     []device          `json:"devices"`
	Edits       edits             `json:"containerEdits"` // of whoever has any of the devices
}

type device struct {
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations"`
	Edits       edits             `json:"containerEdits"`
}

// edits are the changes to a container's configuration.
type edits struct {
	Env        []string    `json:"env"`
	Nodes      []node      `json:"deviceNodes"`
	NetDevices []netDevice `json:"netDevices"`
	Hooks      []hook      `json:"hooks"`
	Mounts     []mount     `json:"mounts"`
	Rdt        *rdt        `json:"intelRdt"`
	Groups     []uint32    `json:"additionalGids"`
}

type node struct {
	Path        string       `json:"path"`
	HostPath    string       `json:"hostPath"`
	Type        string       `json:"type"`
	Major       int64        `json:"major"`
	Minor       int64        `json:"minor"`
	FileMode    *os.FileMode `json:"fileMode"`
	Permissions string       `json:"permissions"`
	UID         *uint32      `json:"uid"`
	GID         *uint32      `json:"gid"`
}

type netDevice struct {
	Host string `json:"hostInterfaceName"`
	Name string `json:"name"`
}

type hook struct {
	Kind    string   `json:"hookName"`
	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Timeout *int     `json:"timeout"`
}

type mount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Options       []string `json:"options"`
	Type          string   `json:"type"`
}

type rdt struct {
	ClosID     string   `json:"closID"`
	L3Schema   string   `json:"l3CacheSchema"`
	MemSchema  string   `json:"memBwSchema"`
	Schemata   []string `json:"schemata"`
	Monitoring bool     `json:"enableMonitoring"`
	// What versions before 1.1.0 had for it.
	CMT bool `json:"enableCMT"`
	MBM bool `json:"enableMBM"`
}

// maxFile bounds a file: those of machines with many devices have some 100 KiB.
const maxFile = 4 << 20

// read reads and checks a file.
func read(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, errdefs.New(errdefs.Invalid, "more than %d bytes", maxFile)
	}
	return parse(raw, strings.HasSuffix(path, ".json"))
}

// parse reads a file's text. A field that is not known is an error: what it asks
// for would be missing.
func parse(raw []byte, isJSON bool) (*file, error) {
	if !isJSON {
		var v any
		err := yaml.Unmarshal(raw, &v)
		if err == nil {
			raw, err = json.Marshal(v) // one reader for both
		}
		if err != nil {
			return nil, errdefs.With(errdefs.Invalid, err)
		}
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var f file
	if err := d.Decode(&f); err != nil {
		return nil, errdefs.With(errdefs.Invalid, err)
	}
	if d.More() {
		return nil, errdefs.New(errdefs.Invalid, "more follows the description")
	}
	return &f, errdefs.With(errdefs.Invalid, f.check())
}

// versions are those that there are. A newer one may mean what we do not know.
func versions() []string {
	return []string{"0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"}
}

func (f *file) check() error {
	if !slices.Contains(versions(), strings.TrimPrefix(f.Version, "v")) {
		return fmt.Errorf("cdiVersion %q is none that is known", f.Version)
	}
	if err := checkKind(f.Kind); err != nil {
		return err
	}
	if len(f.Devices) == 0 {
		return errors.New("no devices")
	}
	if err := f.Edits.check(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, d := range f.Devices {
		if err := checkName(d.Name); err != nil {
			return err
		}
		if seen[d.Name] {
			return fmt.Errorf("device %q is there twice", d.Name)
		}
		seen[d.Name] = true
		if err := d.Edits.check(); err != nil {
			return fmt.Errorf("device %q: %w", d.Name, err)
		}
	}
	return nil
}

func (e *edits) check() error {
	for _, v := range e.Env {
		if k, _, ok := strings.Cut(v, "="); !ok || k == "" || strings.ContainsRune(v, 0) {
			return fmt.Errorf("env %q: want NAME=VALUE", v)
		}
	}
	for _, n := range e.Nodes {
		switch {
		case !absolute(n.Path) || n.HostPath != "" && !absolute(n.HostPath):
			return fmt.Errorf("deviceNodes: path %q of %q: want an absolute one", n.HostPath, n.Path)
		case !slices.Contains([]string{"", "b", "c", "u", "p"}, n.Type):
			return fmt.Errorf("deviceNodes: %s: unknown type %q", n.Path, n.Type)
		case strings.Trim(n.Permissions, "rwm") != "":
			return fmt.Errorf("deviceNodes: %s: unknown permissions %q", n.Path, n.Permissions)
		}
	}
	for _, n := range e.NetDevices {
		if n.Host == "" || n.Name == "" {
			return errors.New("netDevices: one has no name")
		}
	}
	for _, h := range e.Hooks {
		switch {
		case !slices.Contains(hookKinds(), h.Kind):
			return fmt.Errorf("hooks: unknown hookName %q", h.Kind)
		case !absolute(h.Path):
			return fmt.Errorf("hooks: path %q: want an absolute one", h.Path)
		case h.Timeout != nil && *h.Timeout <= 0:
			return fmt.Errorf("hooks: %s: timeout %d", h.Path, *h.Timeout)
		}
	}
	for _, m := range e.Mounts {
		if m.HostPath == "" || strings.ContainsRune(m.HostPath, 0) || !absolute(m.ContainerPath) {
			return fmt.Errorf("mounts: %q at %q: want an absolute path to mount at", m.HostPath, m.ContainerPath)
		}
	}
	if r := e.Rdt; r != nil && (len(r.ClosID) >= 4096 || r.ClosID == "." || r.ClosID == ".." || strings.ContainsAny(r.ClosID, "/\n\x00")) {
		return fmt.Errorf("intelRdt: invalid closID %.50q", r.ClosID)
	}
	return nil
}

func absolute(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.ContainsRune(path, 0)
}

// checkKind refuses what is not vendor.com/class. Either begins with a letter and ends
// with a letter or digit; between there are also dashes, underscores and dots.
func checkKind(s string) error {
	vendor, class, ok := strings.Cut(s, "/")
	for _, part := range []string{vendor, class} {
		if !ok || !word(part, "_-.") || !letter(part[0]) || !alphanumeric(part[len(part)-1]) {
			return fmt.Errorf("invalid kind %q: want vendor.com/class", s)
		}
	}
	return nil
}

// checkName refuses what is no name of a device.
func checkName(s string) error {
	if !word(s, "_-.:") || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return fmt.Errorf("invalid device name %q", s)
	}
	return nil
}

// SplitName takes vendor.com/class=name apart.
func SplitName(s string) (kind, name string, err error) {
	kind, name, ok := strings.Cut(s, "=")
	if ok {
		if err = checkKind(kind); err == nil {
			err = checkName(name)
		}
	}
	if !ok || err != nil {
		return "", "", errdefs.New(errdefs.Invalid, "invalid CDI device name %q: want vendor.com/class=name", s)
	}
	return kind, name, nil
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func alphanumeric(c byte) bool { return letter(c) || c >= '0' && c <= '9' }

func word(s, more string) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && !strings.Contains(more, s[i:i+1]) {
			return false
		}
	}
	return s != "" && len(s) <= 253
}
