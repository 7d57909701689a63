package cdi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

const camera = `{
  "cdiVersion": "0.6.0", "kind": "acme.com/camera",
  "annotations": {"made": "today"},
  "containerEdits": {"env": ["CAMERA=all", "A=2"], "mounts": [{"hostPath": "/opt/cam", "containerPath": "/cam", "options": ["ro", "nosuid"]}]},
  "devices": [
    {"name": "front", "containerEdits": {"env": ["FRONT=1"], "deviceNodes": [{"path": "/dev/front", "hostPath": "/dev/null", "permissions": "rw"}]}},
    {"name": "back", "containerEdits": {
      "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "timeout": 3}],
      "netDevices": [{"hostInterfaceName": "eth7", "name": "cam0"}],
      "intelRdt": {"closID": "cams", "schemata": ["L3:0=f"]},
      "additionalGids": [0, 44, 44],
      "deviceNodes": [{"path": "/dev/back", "type": "b", "major": 7, "minor": 3, "fileMode": 432, "uid": 5}]
    }}
  ]
}`

const gpus = `
cdiVersion: 1.1.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {env: [GPU=0]}
- name: "1"
  containerEdits: {env: [GPU=1]}
- name: all
  containerEdits:
    env: [GPU=all]
    deviceNodes:
    - path: /dev/nvidia0
      type: c
      major: 195
      fileMode: 0666
`

// registry writes files, named dir/file, below a directory and returns the
// registry of the directories a and b.
func registry(t *testing.T, files map[string]string) *Registry {
	t.Helper()
	top := t.TempDir()
	for name, text := range files {
		path := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return New(filepath.Join(top, "a"), filepath.Join(top, "b"))
}

func TestApply(t *testing.T) {
	d := registry(t, map[string]string{"a/camera.json": camera, "a/notes.txt": "{"}).Load()
	if len(d.Wrong()) > 0 {
		t.Fatal(d.Wrong())
	}
	s := &specs.Spec{
		Process: &specs.Process{Env: []string{"A=1", "B=1"}, User: specs.User{UID: 1000, GID: 50, AdditionalGids: []uint32{50}}},
		Linux:   &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/front", Type: "c", Major: 9}}},
		Mounts:  []specs.Mount{{Destination: "/cam", Type: "tmpfs"}},
	}
	if err := d.Apply(s, []string{"acme.com/camera=back", "acme.com/camera=front"}); err != nil {
		t.Fatal(err)
	}
	uid, gid, five, three := uint32(1000), uint32(50), uint32(5), 3
	minor3, major7, one := int64(3), int64(7), int64(1)
	back, null := os.FileMode(0o660), os.FileMode(0o666)
	want := &specs.Spec{
		Process: &specs.Process{Env: []string{"A=2", "B=1", "CAMERA=all", "FRONT=1"}, User: specs.User{UID: 1000, GID: 50, AdditionalGids: []uint32{50, 44}}},
		Mounts:  []specs.Mount{{Destination: "/cam", Type: "bind", Source: "/opt/cam", Options: []string{"ro", "nosuid", "rbind"}}},
		Hooks:   &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/hook", Args: []string{"hook", "x"}, Timeout: &three}}},
		Linux: &specs.Linux{
			NetDevices: map[string]specs.LinuxNetDevice{"eth7": {Name: "cam0"}},
			IntelRdt:   &specs.LinuxIntelRdt{ClosID: "cams", Schemata: []string{"L3:0=f"}},
			Devices: []specs.LinuxDevice{
				{Path: "/dev/back", Type: "b", Major: 7, Minor: 3, FileMode: &back, UID: &five, GID: &gid},
				{Path: "/dev/front", Type: "c", Major: 1, Minor: 3, FileMode: &null, UID: &uid, GID: &gid},
			},
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
				{Allow: true, Type: "b", Major: &major7, Minor: &minor3, Access: "rwm"},
				{Allow: true, Type: "c", Major: &one, Minor: &minor3, Access: "rw"},
			}},
		},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

// TestRequested: names, and GPUs by number and all of them.
func TestRequested(t *testing.T) {
	d := registry(t, map[string]string{"a/camera.json": camera, "b/nvidia.yaml": gpus}).Load()
	gpu := [][]string{{"gpu"}}
	for _, test := range []struct {
		r    container.DeviceRequest
		want string // names, or a part of the error
	}{
		{container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"acme.com/camera=front", "acme.com/camera=front"}}, "acme.com/camera=front"},
		{container.DeviceRequest{Driver: "cdi", Count: 1}, "invalid count"},
		{container.DeviceRequest{Count: -1, Capabilities: gpu}, "nvidia.com/gpu=all"},
		{container.DeviceRequest{Driver: "nvidia", Count: 2, Capabilities: gpu}, "nvidia.com/gpu=0 nvidia.com/gpu=1"},
		{container.DeviceRequest{DeviceIDs: []string{"1"}, Capabilities: gpu}, "nvidia.com/gpu=1"},
		{container.DeviceRequest{Count: 1, DeviceIDs: []string{"1"}, Capabilities: gpu}, "cannot set both"},
		{container.DeviceRequest{Driver: "amd", Count: 1, Capabilities: gpu}, "could not select device driver"},
		{container.DeviceRequest{Count: 1, Capabilities: [][]string{{"tpu"}}}, "could not select device driver"},
		{container.DeviceRequest{Driver: "camera"}, "could not select device driver"},
	} {
		names, err := d.Requested([]container.DeviceRequest{test.r})
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%+v: %s, want %s", test.r, got, test.want)
		}
	}
	// A GPU that is not there is an error, not one fewer.
	names, err := d.Requested([]container.DeviceRequest{{Count: 3, Capabilities: gpu}})
	if err != nil || d.Check(names) == nil {
		t.Errorf("three of two GPUs: %v, %v", names, err)
	}
	var none *Registry
	if _, err := none.Load().Requested([]container.DeviceRequest{{Count: 1, Capabilities: gpu}}); err == nil {
		t.Error("a GPU without a registry")
	}
}

func TestUnknownNames(t *testing.T) {
	d := registry(t, map[string]string{"a/camera.json": camera}).Load()
	err := d.Check([]string{"acme.com/camera=front", "acme.com/camera=top", "b.com/c=d"})
	if !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "unresolvable CDI devices acme.com/camera=top, b.com/c=d") {
		t.Errorf("got %v", err)
	}
	if hint := errdefs.HintOf(err); !strings.Contains(hint, "acme.com/camera=back") {
		t.Errorf("hint %q", hint)
	}
	for _, bad := range []string{"", "a", "a/b", "=", "a/b=", "/b=c", "a/b=../c", "a/b/c=d", "a/b=c\n", "9a/b=c"} {
		if err := d.Check([]string{bad}); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestWhichCounts: a later directory hides an earlier; of two files in one
// directory neither counts; a wrong file hides no other.
func TestWhichCounts(t *testing.T) {
	one := func(value string) string {
		return `{"cdiVersion":"0.3.0","kind":"v.com/c","devices":[{"name":"d","containerEdits":{"env":["X=` + value + `"]}}]}`
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  string
		wrong string
	}{
		"later":    {map[string]string{"a/1.json": one("a"), "b/1.json": one("b")}, "X=b", ""},
		"earlier":  {map[string]string{"a/1.json": one("a")}, "X=a", ""},
		"twice":    {map[string]string{"a/1.json": one("1"), "a/2.json": one("2")}, "", "v.com/c=d is in"},
		"hidden":   {map[string]string{"a/1.json": one("0"), "b/1.json": one("1"), "b/2.json": one("2")}, "", "v.com/c=d is in"},
		"damaged":  {map[string]string{"a/1.json": one("1"), "a/2.json": "{"}, "X=1", "2.json"},
		"unknown":  {map[string]string{"a/1.json": strings.Replace(one("1"), `"env"`, `"envs"`, 1)}, "", "envs"},
		"newer":    {map[string]string{"a/1.json": strings.Replace(one("1"), `0.3.0`, `9.0.0`, 1)}, "", "9.0.0"},
		"bad hook": {map[string]string{"a/1.json": strings.Replace(one("1"), `"env":["X=1"]`, `"hooks":[{"hookName":"never","path":"/x"}]`, 1)}, "", "never"},
		"no env":   {map[string]string{"a/1.json": strings.Replace(one("1"), `X=1`, `X`, 1)}, "", "NAME=VALUE"},
	} {
		t.Run(name, func(t *testing.T) {
			d := registry(t, test.files).Load()
			s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}
			err := d.Apply(s, []string{"v.com/c=d"})
			if got := strings.Join(s.Process.Env, " "); got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
			said := ""
			for _, e := range d.Wrong() {
				said += e.Error()
			}
			if !strings.Contains(said, test.wrong) || test.wrong == "" && said != "" {
				t.Errorf("said %q, want %q", said, test.wrong)
			}
		})
	}
}

// FuzzParse: nobody's file makes the engine panic, and what is taken has names
// and absolute paths.
func FuzzParse(f *testing.F) {
	f.Add([]byte(camera), true)
	f.Add([]byte(gpus), false)
	f.Add([]byte("a: &a [*a]"), false)
	f.Add([]byte(`{"cdiVersion":"0.3.0","kind":"v/c","devices":[{"name":"d","containerEdits":{"mounts":[{}]}}]}`), true)
	f.Fuzz(func(t *testing.T, raw []byte, isJSON bool) {
		got, err := parse(raw, isJSON)
		if err != nil {
			return
		}
		if len(got.Devices) == 0 {
			t.Error("no devices")
		}
		for _, d := range got.Devices {
			if _, _, err := SplitName(got.Kind + "=" + d.Name); err != nil {
				t.Errorf("nobody can ask for %q of %q", d.Name, got.Kind)
			}
			for _, m := range d.Edits.Mounts {
				if !filepath.IsAbs(m.ContainerPath) {
					t.Errorf("a mount at %q", m.ContainerPath)
				}
			}
		}
	})
}
