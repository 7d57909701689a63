package request

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/spf13/pflag"
)

// parse returns the request for a command line as a person writes it.
func parse(t *testing.T, args ...string) (container.CreateRequest, error) {
	t.Helper()
	var f Flags
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.Register(set)
	f.readFile = func(name string) ([]byte, error) {
		switch name {
		case "env":
			return []byte("\xef\xbb\xbf# comment\n\n  A=1\nFROM_HERE\nNOT_SET\nB= x=y \n"), nil
		case "badenv":
			return []byte("A=1\nB C=2\n"), nil
		case "seccomp.json":
			return []byte("{\n  \"defaultAction\": \"SCMP_ACT_ERRNO\"\n}\n"), nil
		case "notjson":
			return []byte("{"), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("nothing there")}
	}
	if err := set.Parse(args); err != nil {
		return container.CreateRequest{}, err
	}
	return f.Request(set.Arg(0), set.Args()[min(1, set.NArg()):], set.Changed("entrypoint"))
}

func TestRequest(t *testing.T) {
	t.Setenv("FROM_HERE", "yes")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	type req = container.CreateRequest
	yes, no, n, n64 := true, false, 5, int64(100)
	for _, test := range []struct {
		args string
		want func(r req)
	}{
		{"-it --rm busybox sh -c -x", func(r req) {
			r.Tty, r.OpenStdin, r.HostConfig.AutoRemove, r.Cmd = true, true, true, []string{"sh", "-c", "-x"}
		}},
		{"-e A=1 -e FROM_HERE -e NOT_SET --env-file env busybox", func(r req) {
			r.Env = []string{"A=1", "FROM_HERE=yes", "B= x=y ", "A=1", "FROM_HERE=yes", "NOT_SET"}
		}},
		{"-w /x -u 1:2 -h web --domainname example --stop-signal INT --stop-timeout 5 -l a=b -l c busybox", func(r req) {
			r.WorkingDir, r.User, r.Hostname, r.Domainname, r.StopSignal, r.StopTimeout = "/x", "1:2", "web", "example", "INT", &n
			r.Labels = map[string]string{"a": "b", "c": ""}
		}},
		{"--entrypoint /bin/true busybox", func(r req) { r.Entrypoint = []string{"/bin/true"} }},
		{"--entrypoint= busybox", func(r req) { r.Entrypoint = []string{""} }},
		{"-v /a:/b:ro -v data:/d -v /anonymous -v ./x:/y busybox", func(r req) {
			r.HostConfig.Binds = []string{"/a:/b:ro", "data:/d", filepath.Join(here, "x") + ":/y"}
			r.Volumes = map[string]struct{}{"/anonymous": {}}
		}},
		{"--mount type=bind,src=/a,dst=/b,ro,bind-propagation=rslave --mount type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770 busybox", func(r req) {
			r.HostConfig.Mounts = []mount.Mount{
				{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, BindOptions: &mount.BindOptions{Propagation: "rslave"}},
				{Type: "tmpfs", Target: "/t", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 64 << 20, Mode: 0o1770}},
			}
		}},
		{"--tmpfs /run --tmpfs /tmp:size=1m,noexec --read-only --shm-size 64m busybox", func(r req) {
			r.HostConfig.Tmpfs = map[string]string{"/run": "", "/tmp": "size=1m,noexec"}
			r.HostConfig.ReadonlyRootfs, r.HostConfig.ShmSize = true, 64<<20
		}},
		{"-m 1g --memory-swap -1 --cpus 1.1 -c 512 --cpuset-cpus 0-1 --pids-limit 100 --oom-score-adj 7 busybox", func(r req) {
			h := r.HostConfig
			h.Memory, h.MemorySwap, h.NanoCPUs, h.CPUShares, h.CpusetCpus, h.PidsLimit, h.OomScoreAdj = 1<<30, -1, 1_100_000_000, 512, "0-1", &n64, 7
		}},
		{"--ulimit nofile=10:20 --ulimit nofile=30 --ulimit core=-1 busybox", func(r req) {
			r.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 30, Hard: 30}, {Name: "core", Soft: -1, Hard: -1}}
		}},
		{"--cap-add NET_ADMIN --cap-drop ALL --privileged --security-opt no-new-privileges --security-opt seccomp=seccomp.json --security-opt seccomp=unconfined busybox", func(r req) {
			h := r.HostConfig
			h.CapAdd, h.CapDrop, h.Privileged = []string{"NET_ADMIN"}, []string{"ALL"}, true
			h.SecurityOpt = []string{"no-new-privileges", `seccomp={"defaultAction":"SCMP_ACT_ERRNO"}`, "seccomp=unconfined"}
		}},
		{"--security-opt systempaths=unconfined busybox", func(r req) {
			r.HostConfig.MaskedPaths, r.HostConfig.ReadonlyPaths = []string{}, []string{}
		}},
		{"--network none --add-host a:1.2.3.4 --add-host b=[::1] --add-host c:host-gateway busybox", func(r req) {
			r.HostConfig.NetworkMode, r.HostConfig.ExtraHosts = "none", []string{"a:1.2.3.4", "b:::1", "c:host-gateway"}
		}},
		{"--net container:web --ipc host --pid host --uts host --userns host --cgroupns private --init=false busybox", func(r req) {
			h := r.HostConfig
			h.NetworkMode, h.IpcMode, h.PidMode, h.UTSMode, h.UsernsMode, h.CgroupnsMode, h.Init = "container:web", "host", "host", "host", "host", "private", &no
		}},
		{"--init --restart on-failure:3 --sysctl net.a=1 --annotation k=v --device /dev/fuse --device /dev/a:/dev/b:r busybox", func(r req) {
			h := r.HostConfig
			h.Init, h.RestartPolicy = &yes, container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}
			h.Sysctls, h.Annotations = map[string]string{"net.a": "1"}, map[string]string{"k": "v"}
			h.Devices = []container.DeviceMapping{
				{PathOnHost: "/dev/fuse", PathInContainer: "/dev/fuse", CgroupPermissions: "rwm"},
				{PathOnHost: "/dev/a", PathInContainer: "/dev/b", CgroupPermissions: "r"},
			}
		}},
	} {
		t.Run(test.args, func(t *testing.T) {
			got, err := parse(t, strings.Fields(test.args)...)
			if err != nil {
				t.Fatal(err)
			}
			want, err := parse(t, "busybox")
			if err != nil {
				t.Fatal(err)
			}
			test.want(want)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequestRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"-v a:b:c:d x":                       "too many colons",
		"-v :/b x":                           "an empty path",
		"-v a:b x":                           "not absolute",
		"-v /a:/ x":                          "cannot be '/'",
		"-m lots x":                          "invalid",
		"--cpus 1.0000000001 x":              "too precise",
		"--cpus -1 x":                        "want a number",
		"--ulimit nofile x":                  "invalid ulimit",
		"--device dev/fuse x":                "not an absolute path",
		"--device /dev/a:/dev/b:rx x":        "want some of r, w and m",
		"--device-cgroup-rule d x":           "want TYPE",
		"--restart sometimes x":              "invalid restart policy",
		"--restart on-failure:x x":           "integer",
		"--env-file badenv x":                `line 2: the name "B C" contains a blank`,
		"--env-file absent x":                "absent",
		"-e =a x":                            "no name",
		"-l =a x":                            "no name",
		"--add-host a x":                     "NAME:ADDRESS",
		"--add-host a:b x":                   "no IP address",
		"--dns one x":                        "no IP address",
		"--sysctl a x":                       "key=value",
		"--tmpfs run x":                      "not an absolute path",
		"--network none --network host x":    "cannot attach both user-defined and non-user-defined network-modes",
		"--network a --network a x":          "specified multiple times",
		"--network alias=b x":                "has no name",
		"--security-opt seccomp=notjson x":   "unexpected end",
		"--security-opt seccomp=absent x":    "absent",
		"--security-opt nothing x":           "want name=value",
		"--mount type=bind,dst=/b x":         "needs a source",
		"--mount type=bind,src=/a x":         "target is required",
		"--mount type=tmpfs,src=/a,dst=/b x": "has no source",
		"--mount type=x,dst=/b x":            "want bind, volume",
		"--mount type=tmpfs,dst=/b,bind-propagation=shared x": "does not go with",
		"--mount dst=/b,what=ever x":                          "unknown option",
		"--mount dst x":                                       "want key=value",
		"--mount type=tmpfs,dst=/b,tmpfs-mode=9 x":            "octal",
		"-a stdlog x":                                         "want stdin",
		"-p 80:8x x":                                          "invalid containerPort",
		"--rm --restart always x":                             "conflicting options",
		"--expose 0x10 x":                                     "invalid",
	} {
		if _, err := parse(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
}

// FuzzFlags: no value of a flag that takes text apart panics, and what passes
// can be put together to a request.
func FuzzFlags(f *testing.F) {
	for _, seed := range []string{
		"type=bind,src=/a,dst=/b,ro", `type=volume,"dst=/a,b",volume-opt=o=a`, "/a:/b:ro", "nofile=1:2", "1.5", "a:1.2.3.4", "name=x,alias=y",
		"/dev/a:/dev/b:rw", "c 1:3 mr", "on-failure:3", "80-90/udp", "64m", "seccomp=x", "a=b", "::", "\xff", "-1",
	} {
		f.Add(seed)
	}
	flags := []string{
		"mount", "volume", "ulimit", "cpus", "add-host", "network", "device", "device-cgroup-rule", "restart", "expose",
		"memory", "memory-swap", "tmpfs", "dns", "sysctl", "env", "label", "attach", "stop-signal", "pids-limit",
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range flags {
			_, _ = parse(t, "--"+name+"="+text, "busybox")
		}
		if lines, err := keyValues([]byte(text), nil); err == nil {
			for _, l := range lines {
				if key, _, ok := strings.Cut(l, "="); !ok || key == "" || strings.ContainsAny(key, " \t\n") {
					t.Errorf("a line of %q became %q", text, l)
				}
			}
		}
	})
}
