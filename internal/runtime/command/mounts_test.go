package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// mountpoint makes a mount of the host for the time of a test.
func mountpoint(t *testing.T, flags, propagation uintptr) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags&^unix.MS_RDONLY, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", propagation, ""); err != nil {
		t.Fatal(err)
	}
	if flags&unix.MS_RDONLY != 0 {
		if err := unix.Mount("", dir, "", flags|unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// flagsAt prints the options of the mount at a place.
func flagsAt(place string) string {
	return `awk '$5 == "` + place + `" {print $6}' /proc/self/mountinfo`
}

// TestRootPropagation: mountinfo tells of the propagation of the root.
func TestRootPropagation(t *testing.T) {
	m := newMachine(t, nil)
	for word, want := range map[string]string{
		"": "", "private": "", "rprivate": "", "slave": "", "rslave": "", "shared": "shared", "rshared": "shared", "unbindable": "unbindable", "runbindable": "unbindable",
	} {
		m.configure(func(c *specs.Spec) { c.Linux.RootfsPropagation = word })
		got := m.sh(`awk '$5 == "/" {print $7}' /proc/self/mountinfo`)
		if got, _, _ = strings.Cut(strings.TrimSuffix(got, "\n"), ":"); strings.Trim(got, "-") != want {
			t.Errorf("%q: the root is %q, want %q", word, got, want)
		}
	}
}

// TestVolumePropagation: what is mounted on one side of a volume is seen, or
// not, on the other.
func TestVolumePropagation(t *testing.T) {
	for _, tt := range []struct {
		root, volume string
		out, in      bool // of the container, into it
	}{
		{"shared", "rshared", true, true},
		{"rshared", "rshared", true, true},
		{"", "rshared", false, true},
		{"rslave", "rslave", false, true},
		{"shared", "rslave", false, true},
		{"shared", "rprivate", false, false},
		{"rprivate", "rprivate", false, false},
	} {
		t.Run(tt.root+" "+tt.volume, func(t *testing.T) {
			dir := mountpoint(t, 0, unix.MS_SHARED)
			for _, d := range []string{"in", "out"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			m := newMachine(t, func(c *specs.Spec) {
				c.Linux.RootfsPropagation = tt.root
				for _, set := range []*[]string{&c.Process.Capabilities.Bounding, &c.Process.Capabilities.Effective, &c.Process.Capabilities.Permitted} {
					*set = append(*set, "CAP_SYS_ADMIN")
				}
				c.Mounts = append(c.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: dir, Options: []string{"rbind", tt.volume}})
				c.Root.Readonly = false
			})
			before, _ := os.ReadFile("/proc/self/mountinfo")
			id := m.background("sh", "-c", "mount -t tmpfs out /volume/out && touch /volume/out/seen; sleep 1000")
			kerneltest.Eventually(t, "the container has mounted", func() bool {
				_, err := m.run("exec", id, "test", "-e", "/volume/out/seen")
				return err == nil
			})
			if _, err := os.Stat(filepath.Join(dir, "out/seen")); (err == nil) != tt.out {
				t.Errorf("the host sees the container's mount: %v, want %v", err == nil, tt.out)
			}
			_ = unix.Unmount(filepath.Join(dir, "out"), unix.MNT_DETACH)
			if after, _ := os.ReadFile("/proc/self/mountinfo"); string(before) != string(after) {
				t.Errorf("other mounts of the host were\n%s\nare\n%s", before, after)
			}
			if err := unix.Mount("in", filepath.Join(dir, "in"), "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "in/seen"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := m.run("exec", id, "test", "-e", "/volume/in/seen"); (err == nil) != tt.in {
				t.Errorf("the container sees the host's mount: %v, want %v", err == nil, tt.in)
			}
		})
	}
}

// TestBindOptions: a bind mount without attributes is as its source; one with
// some has those and no others, but for the access times, which stay unless
// they are named. In a user namespace it keeps the source's besides: the kernel
// would not let go of them.
func TestBindOptions(t *testing.T) {
	dir := mountpoint(t, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY|unix.MS_NOATIME|unix.MS_NOSYMFOLLOW, unix.MS_PRIVATE)
	const all = "ro,nosuid,nodev,noexec,noatime"
	for options, want := range map[string]struct{ own, user string }{
		"bind":                        {all + ",nosymfollow", all + ",nosymfollow"},
		"bind,ro":                     {"ro,noatime", all},
		"bind,rw":                     {"rw,noatime", "rw,nosuid,nodev,noexec,noatime"},
		"bind,exec,suid,dev,rw":       {"rw,noatime", "rw,noatime"},
		"bind,atime":                  {"rw,noatime", all},
		"bind,relatime":               {"rw,relatime", "ro,nosuid,nodev,noexec,relatime"},
		"bind,nodiratime":             {"rw,nodiratime,relatime", "ro,nosuid,nodev,noexec,nodiratime,relatime"},
		"bind,strictatime,nodiratime": {"rw,nodiratime", "ro,nosuid,nodev,noexec,nodiratime"},
		"bind,nosymfollow":            {"rw,noatime,nosymfollow", all + ",nosymfollow"},
		"rbind,rrw":                   {"rw,nosuid,nodev,noexec,noatime,nosymfollow", "rw,nosuid,nodev,noexec,noatime,nosymfollow"},
		"rbind,rw,ro":                 {"ro,noatime", all},
		"bind,sync,rexec":             {"ro,nosuid,nodev,noatime,nosymfollow", "ro,nosuid,nodev,noatime,nosymfollow"},
	} {
		for _, user := range []bool{false, true} {
			m := newMachine(t, func(c *specs.Spec) {
				c.Root.Readonly = false
				c.Mounts = append(c.Mounts, specs.Mount{Destination: "/volume", Source: dir, Options: strings.Split(options, ",")})
				if user {
					mapped(t, c)
				}
			})
			want := map[bool]string{false: want.own, true: want.user}[user]
			if got := m.sh(flagsAt("/volume")); got != want+"\n" {
				t.Errorf("%s, user namespace %v: got %q, want %q", options, user, got, want)
			}
		}
	}
}

// TestBindInside: a bind's source in the container's own tree is what the
// mounts before it made of it, also where the host has nothing there; both its
// ends may be named as the host sees them.
func TestBindInside(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("seen\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, user := range []bool{false, true} {
		for _, idmap := range []bool{false, true} {
			m := newMachine(t, func(c *specs.Spec) {
				c.Root.Readonly = false
				options := []string{"rbind"}
				if idmap {
					options = append(options, "idmap")
				}
				bind := func(from, to string, options ...string) {
					m := specs.Mount{Source: from, Destination: to, Type: "bind", Options: options}
					if idmap && len(options) > 1 {
						m.UIDMappings = []specs.LinuxIDMapping{{Size: 1, HostID: 7}, {ContainerID: 1, HostID: 100000, Size: 65536}}
						m.GIDMappings = m.UIDMappings
					}
					c.Mounts = append(c.Mounts, m)
				}
				bind(dir, "/mnt", "rbind")
				bind(c.Root.Path+"/mnt", c.Root.Path+"/final", options...)
				bind(c.Root.Path+"/mnt/file", "/copy", options...)
				if user {
					mapped(t, c)
				}
			})
			if got := m.sh("cat /final/file && cat /copy"); strings.Count(got, "seen") != 2 {
				t.Errorf("user namespace %v, idmap %v: got %q", user, idmap, got)
			}
		}
	}
	m := newMachine(t, func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{Source: c.Root.Path + "/none", Destination: "/final", Type: "bind", Options: []string{"bind"}})
	})
	if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); err == nil || !strings.Contains(out, "open the source "+m.rootfs+"/none") {
		t.Errorf("a source that nobody made: %q, %v", out, err)
	}
}

// TestRecursiveOptions: those with an r in front hold for what is mounted below.
func TestRecursiveOptions(t *testing.T) {
	dir := mountpoint(t, 0, unix.MS_PRIVATE)
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("below", filepath.Join(dir, "below"), "tmpfs", unix.MS_NOSUID, ""); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]string{
		"rbind,ro":              "ro,relatime rw,nosuid,relatime",
		"rbind,rro":             "ro,relatime ro,nosuid,relatime",
		"rbind,ro,rsuid,rnodev": "ro,nodev,relatime rw,nodev,relatime",
		"rbind,rnoatime":        "rw,noatime rw,nosuid,noatime",
		"rbind,rro,rw":          "ro,relatime ro,nosuid,relatime",
		"rbind,rnosymfollow":    "rw,relatime,nosymfollow rw,nosuid,relatime,nosymfollow",
		"bind,rnoexec":          "rw,noexec,relatime",
		"rbind,rnoexec,rexec":   "rw,relatime rw,nosuid,relatime",
		"rbind,rstrictatime":    "rw rw,nosuid",
		"rbind,rnodiratime,ro":  "ro,nodiratime,relatime rw,nosuid,nodiratime,relatime",
	} {
		m := newMachine(t, func(c *specs.Spec) {
			c.Root.Readonly = false
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/volume", Source: dir, Options: strings.Split(options, ",")})
		})
		if got := m.sh(`awk '$5 ~ "^/volume" {print $6}' /proc/self/mountinfo | tr '\n' ' '`); got != want+" " {
			t.Errorf("%s: got %q, want %q", options, got, want)
		}
	}
}

// TestTmpfsMode: a tmpfs has the mode of the directory that it covers, unless
// its options say another.
func TestTmpfsMode(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Root.Readonly = false
		c.Mounts = append(c.Mounts,
			specs.Mount{Destination: "/some", Type: "tmpfs"},
			specs.Mount{Destination: "/told", Type: "tmpfs", Options: []string{"mode=0700"}},
			specs.Mount{Destination: "/ro", Type: "tmpfs", Options: []string{"ro"}},
			specs.Mount{Destination: "/new", Type: "tmpfs"},
		)
	})
	for name, mode := range map[string]os.FileMode{"some": 0o751, "told": 0o755, "ro": 0o711} {
		if err := os.Mkdir(filepath.Join(m.rootfs, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.sh("stat -c %a /some /told /ro /new; touch /ro/x 2>/dev/null || echo ro"); got != "751\n700\n711\n1777\nro\n" {
		t.Errorf("got %q", got)
	}
}

// TestLongOptions: options that the new calls do not take.
func TestLongOptions(t *testing.T) {
	lower := filepath.Join(t.TempDir(), strings.Repeat("a", 200), strings.Repeat("b", 200))
	if err := os.MkdirAll(lower, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lower, "f"), []byte("lower\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, func(c *specs.Spec) {
		c.Root.Readonly = false
		c.Mounts = append(c.Mounts,
			specs.Mount{Destination: "/link/over", Type: "overlay", Source: "overlay", Options: []string{"ro", "nosuid", "nodev", "noatime", "lowerdir=" + lower + ":" + t.TempDir()}},
			specs.Mount{Destination: "/versions", Type: "tmpfs", Options: []string{"iversion", "noexec", "size=1m"}},
		)
	})
	if err := os.Symlink("/real", filepath.Join(m.rootfs, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(m.rootfs, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := m.sh("cat /real/over/f; " + flagsAt("/real/over") + "; " + flagsAt("/versions") + "; pwd"); got != "lower\nro,nosuid,nodev,noatime\nrw,noexec,relatime\n/\n" {
		t.Errorf("got %q", got)
	}
}

// TestRefusedMounts: each is refused with its reason, and leaves nothing.
func TestRefusedMounts(t *testing.T) {
	dir := t.TempDir()
	m := newMachine(t, func(c *specs.Spec) { c.Root.Readonly = false })
	for link, to := range map[string]string{"attr": "/proc/self/attr", "p": "/proc", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(m.rootfs, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(m.rootfs, "taken"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m.args("true")
	var mounts []specs.Mount
	var devices []specs.LinuxDevice
	m.configure(func(c *specs.Spec) { mounts, devices = c.Mounts, c.Linux.Devices })
	for _, tt := range []struct {
		mount  specs.Mount
		device specs.LinuxDevice
		want   string
	}{
		{mount: specs.Mount{Destination: "/attr", Type: "tmpfs"}, want: "because it is inside /proc"},
		{mount: specs.Mount{Destination: "/p/self", Type: "bind", Source: dir}, want: "because it is inside /proc"},
		{mount: specs.Mount{Destination: "/loop", Type: "tmpfs"}, want: "too many levels of symbolic links"},
		{mount: specs.Mount{Destination: "/", Type: "bind", Source: dir}, want: "nothing can be mounted over the root"},
		{mount: specs.Mount{Destination: "/x", Type: "bind", Source: dir, Options: []string{"size=1m"}}, want: "bind mounts cannot have any filesystem-specific options"},
		{mount: specs.Mount{Destination: "/taken", Type: "bind", Source: dir}, want: "at /taken: "},
		{mount: specs.Mount{Destination: "/x", Type: "nosuchfs"}, want: "no such device"},
		{mount: specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"nosuch=option"}}, want: "mount tmpfs at /x: invalid argument"},
		{mount: specs.Mount{Destination: "/x", Type: "bind", Source: "/nosuch"}, want: "no such file"},
		{device: specs.LinuxDevice{Path: "/taken", Type: "c", Major: 1, Minor: 3}, want: "make the device /taken: there is something else"},
		{device: specs.LinuxDevice{Path: "/dev/x", Type: "s", Major: 1, Minor: 3}, want: `linux.devices[0].type: "s"`},
		{device: specs.LinuxDevice{Path: "x", Type: "c"}, want: "is no absolute path of a device"},
	} {
		m.configure(func(c *specs.Spec) {
			c.Mounts, c.Linux.Devices = mounts, devices
			if tt.mount.Destination != "" {
				c.Mounts = append(c.Mounts, tt.mount)
			} else {
				c.Linux.Devices = append(c.Linux.Devices, tt.device)
			}
		})
		out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
		if code(err) != 1 || !strings.Contains(out, tt.want) {
			t.Errorf("%+v %+v: got %q, %v; want %q", tt.mount, tt.device, out, err, tt.want)
		}
	}
	if left, _ := os.ReadDir(m.state); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestConfiguredDevices: nodes anywhere, of every type, and one that is there.
func TestConfiguredDevices(t *testing.T) {
	mode, uid, gid := os.FileMode(0o640), uint32(7), uint32(8)
	m := newMachine(t, func(c *specs.Spec) {
		c.Root.Readonly = false
		c.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/deep/er/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid, GID: &gid},
			{Path: "/srv/fifo", Type: "p"},
			{Path: "/dev/loopy", Type: "b", Major: 7, Minor: 1},
			{Path: "/dev/null", Type: "u", Major: 1, Minor: 3, UID: &uid},
			{Path: "/there", Type: "c", Major: 1, Minor: 7},
			{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
		}
	})
	if err := unix.Mknod(filepath.Join(m.rootfs, "there"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))); err != nil {
		t.Fatal(err)
	}
	got := m.sh("cd /; stat -c '%F %t:%T %a %u:%g' dev/deep/er/zero srv/fifo dev/loopy dev/null there; readlink dev/ptmx")
	want := "character special file 1:5 640 7:8\nfifo 0:0 666 0:0\nblock special file 7:1 666 0:0\ncharacter special file 1:3 666 7:0\ncharacter special file 1:7 600 0:0\npts/ptmx\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestIDMapOfJoinedNamespace: a mount without mappings of its own has those of
// the user namespace that is joined.
func TestIDMapOfJoinedNamespace(t *testing.T) {
	dir := mountpoint(t, 0, unix.MS_PRIVATE)
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, func(c *specs.Spec) { mapped(t, c) })
	infra := m.background("sleep", "1000")
	m.configure(func(c *specs.Spec) {
		c.Linux.CgroupsPath += "-2"
		c.Linux.Namespaces[len(c.Linux.Namespaces)-1].Path = m.namespace(infra, "user")
		c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
		c.Mounts = append(c.Mounts, specs.Mount{Destination: "/volume", Source: dir, Type: "bind", Options: []string{"bind", "idmap"}})
	})
	if got := m.sh("stat -c %u /volume/f; touch /volume/g"); got != "0\n" {
		t.Errorf("got %q", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "g"), &st); err != nil || st.Uid != 0 {
		t.Errorf("on the host it belongs to %d, %v", st.Uid, err)
	}
}

// TestDanglingMountpoint: a mount on a link that leads nowhere makes what the
// link names, inside the root.
func TestDanglingMountpoint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("bound\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, func(c *specs.Spec) {
		c.Root.Readonly = false
		for link, to := range map[string]string{"jump": "/none/below", "hosts": "/jump/hosts"} {
			if err := os.Symlink(to, filepath.Join(c.Root.Path, link)); err != nil {
				t.Fatal(err)
			}
		}
		c.Mounts = append(c.Mounts, specs.Mount{Destination: "/hosts", Type: "bind", Source: file, Options: []string{"bind"}})
	})
	if got := m.sh("cat /hosts && cat /none/below/hosts"); strings.Count(got, "bound") != 2 {
		t.Errorf("got %q", got)
	}
}

// TestNoPivot: without pivot_root, too, no user namespace in the container
// mounts a procfs in which nothing is masked.
func TestNoPivot(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		powerful(c, "CAP_SETFCAP")
		c.Process.Args = []string{"sh", "-c", "pwd; ls /proc/1/status; unshare -Umrpf mount -t proc none /proc"}
	})
	out, err := m.run("run", "--no-pivot", "--bundle", m.bundle, kerneltest.ID(t))
	if err == nil || !strings.HasPrefix(out, "/\n/proc/1/status\n") || !strings.Contains(out, "ermission denied") {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestMaskedDirectories: one empty directory masks all, and each of them once.
func TestMaskedDirectories(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		for _, d := range []string{"a", "b"} {
			if err := os.Mkdir(filepath.Join(c.Root.Path, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c.Linux.MaskedPaths = []string{"/none", "/a", "/b", "/a/"}
	})
	const script = `[ $(stat -c %d /a) = $(stat -c %d /b) ] && awk '$5 == "/a"' /proc/self/mountinfo | wc -l; touch /b/x`
	m.args("sh", "-c", script)
	out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
	if err == nil || !strings.HasPrefix(out, "1\n") || !strings.Contains(out, "Read-only") {
		t.Errorf("got %q, %v", out, err)
	}
}
