package gauntlet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Rows returns all attacks, in the order of their numbers.
func Rows() []Row {
	return []Row{
		{1, "CVE-2016-9962", "who enters shows nothing of the host", seeWhoEnters, execWorks},
		{2, "CVE-2019-5736", "the runtime's binary is written to", writeBinary, execWorks},
		{3, "CVE-2019-16884", "a false proc is mounted over proc", mountOverProc, tmpfsWorks},
		{4, "CVE-2021-30465", "a mount leaves the root by a link", mountThroughLink, mountInside},
		{4, "CVE-2021-30465", "a place is swapped while it is mounted on", mountOnSwapped, mountInside},
		{5, "CVE-2021-43784", "mappings and paths too long for a message", overflow, mappingsWork},
		{6, "CVE-2022-29162", "capabilities are inheritable", inheritable, runWorks},
		{7, "CVE-2022-0492", "release_agent and cgroups are written to", releaseAgent, cgroupsAreSeen},
		{8, "CVE-2023-27561", "proc is a link", falseProc, procWorks},
		{9, "CVE-2024-21626", "the directory is a leaked descriptor", leakedDirectory, directoryWorks},
		{10, "CVE-2024-45310", "directories are made through a link", makeThroughLink, makeInside},
		{11, "CVE-2025-31133", "the image's null is not null", maskByLink, maskWorks},
		{12, "CVE-2025-52565", "the image's console is a link", consoleByLink, runWorks},
		{13, "CVE-2025-52881", "what the runtime writes to in proc is covered", coverProc, runWorks},
		{14, "CVE-2026-41579", "dev is a link", devicesThroughLink, devicesInside},
		{16, "CVE-2022-0811", "a sysctl of the host", sysctls, sysctlWorks},
		{17, "CVE-2022-4318", "a line of passwd in the environment", linesInHome, runWorks},
		{18, "CVE-2024-9676", "passwd is a pipe, endless, or a link", oddPasswd, runWorks},
		{19, "CVE-2024-40635", "a user that is none", userOfNobody, userWorks},
		{20, "CVE-2022-2995", "groups that nobody asked for", groups, groupsWork},
	}
}

func runWorks(m *Machine) error { return m.Expect("readlink /proc/1/exe", "/bin/busybox\n") }

func execWorks(m *Machine) error {
	id, err := m.Background("sleep 1000")
	if err != nil {
		return err
	}
	if out, err := m.Run("exec", id, "echo", "in"); err != nil || out != "in\n" {
		return fmt.Errorf("exec: %q, %w", out, errors.Join(err))
	}
	return nil
}

// seeWhoEnters looks at every process that enters, as root of the container
// with the capabilities that containers have.
func seeWhoEnters(m *Machine) (string, error) {
	id, err := m.Background(`while :; do for f in /proc/[0-9]*/fd/* /proc/[0-9]*/cwd /proc/[0-9]*/root; do readlink $f; done; done >>/seen 2>/dev/null`)
	if err != nil {
		return "", err
	}
	for range 30 {
		if out, err := m.Run("exec", id, "true"); err != nil {
			return "", fmt.Errorf("exec: %w: %s", err, out)
		}
	}
	seen, err := os.ReadFile(filepath.Join(m.Rootfs(), "seen"))
	for line := range strings.Lines(string(seen)) {
		if strings.HasPrefix(line, m.Dir) {
			return "the container saw " + strings.TrimSpace(line), err
		}
	}
	return "", err
}

// writeBinary executes scripts for /proc/self/exe, while a watcher in the
// container writes to whatever is executed. The binary is compared after.
func writeBinary(m *Machine) (string, error) {
	if err := os.WriteFile(filepath.Join(m.Rootfs(), "bin/script"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		return "", err
	}
	id, err := m.Background(`while :; do for p in /proc/[0-9]*; do
		case $(readlink $p/exe) in /bin/busybox|"") ;; *) echo owned >>$p/exe && echo $p >>/written;; esac
	done; done 2>/dev/null`)
	if err != nil {
		return "", err
	}
	for range 40 {
		_, _ = m.Run("exec", id, "/bin/script")
	}
	if b, err := os.ReadFile(filepath.Join(m.Rootfs(), "written")); err == nil {
		return "written to, as " + string(b), nil
	}
	return "", nil
}

// refused runs what must not run: harm is that it does.
func refused(m *Machine, what string) (string, error) {
	if out, err := m.Try("true"); err == nil {
		return what + " " + out, nil
	}
	return "", nil
}

func mountOverProc(m *Machine) (string, error) {
	err := m.Configure(func(c *specs.Spec) {
		for i := range c.Mounts {
			if c.Mounts[i].Destination == "/proc" {
				c.Mounts[i] = specs.Mount{Destination: "/proc", Type: "tmpfs", Source: "tmpfs"}
			}
		}
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
	})
	if err != nil {
		return "", err
	}
	return refused(m, "it runs with a false /proc")
}

func tmpfsWorks(m *Machine) error {
	return errors.Join(m.Tmpfs("/procedure"), m.Expect("grep -c ' /procedure ' /proc/self/mountinfo", "1\n"))
}

// mountThroughLink has a mount point that is a link to the canary.
func mountThroughLink(m *Machine) (string, error) {
	err := errors.Join(m.Link("mnt/link", m.Canary), os.MkdirAll(filepath.Join(m.Rootfs(), m.Canary), 0o755), m.Tmpfs("/mnt/link"))
	if err != nil {
		return "", err
	}
	out, err := m.Try("cat /proc/self/mountinfo")
	switch {
	case err != nil:
		return "", nil //nolint:nilerr // refused
	case !strings.Contains(out, " "+m.Canary+" "):
		return "the mount is not in the root", nil
	}
	return "", nil
}

// mountInside has a mount point behind a link that stays in the root.
func mountInside(m *Machine) error {
	return errors.Join(m.Link("var/run", "/run"), os.MkdirAll(filepath.Join(m.Rootfs(), "run/place"), 0o755), m.Tmpfs("/var/run/place"),
		m.Expect("grep -c ' /run/place ' /proc/self/mountinfo", "1\n"))
}

// mountOnSwapped swaps a directory on the way to a mount point for a link to
// the canary, as fast as it can.
func mountOnSwapped(m *Machine) (string, error) {
	a, b := filepath.Join(m.Rootfs(), "mnt/a"), filepath.Join(m.Rootfs(), "mnt/b")
	err := errors.Join(os.MkdirAll(a, 0o755), os.Symlink(strings.Repeat("../", 30)+m.Canary, b), m.Tmpfs("/mnt/a/new/place"))
	if err != nil {
		return "", err
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c := filepath.Join(m.Rootfs(), "mnt/c")
		for {
			select {
			case <-stop:
				return
			default:
				_ = errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
			}
		}
	}()
	for range 30 {
		_, _ = m.Try("true")
	}
	close(stop)
	<-done
	return "", nil // what is made in the canary is found by the caller
}

// overflow asks for more than a message's length can say.
func overflow(m *Machine) (string, error) {
	user := func(n uint32) func(*specs.Spec) {
		return func(c *specs.Spec) {
			c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			for i := range n {
				c.Linux.UIDMappings = append(c.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: i, HostID: 100000 + 2*i, Size: 1})
			}
			c.Linux.GIDMappings = c.Linux.UIDMappings
		}
	}
	if err := m.Configure(user(6000)); err != nil {
		return "", err
	}
	if out, err := m.Try("cat /proc/self/uid_map"); err == nil {
		return "it runs with the mapping " + out, nil
	}
	err := m.Configure(func(c *specs.Spec) {
		c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
		c.Linux.Namespaces = c.Linux.Namespaces[:len(c.Linux.Namespaces)-1]
		for i := range c.Linux.Namespaces {
			if c.Linux.Namespaces[i].Type == specs.NetworkNamespace {
				c.Linux.Namespaces[i].Path = "/" + strings.Repeat("x/../", 1<<14) + "proc/self/ns/net"
			}
		}
	})
	if err != nil {
		return "", err
	}
	return refused(m, "it runs in a namespace whose path nobody can open")
}

func mappingsWork(m *Machine) error {
	err := m.Configure(func(c *specs.Spec) {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 200000, Size: 1000}}
		c.Linux.GIDMappings = c.Linux.UIDMappings
	})
	err = errors.Join(err, filepath.Walk(m.Dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, 200000, 200000))
	}))
	return errors.Join(err, m.Expect("awk '{print $2}' /proc/self/uid_map", "200000\n"))
}

func inheritable(m *Machine) (string, error) {
	err := m.Configure(func(c *specs.Spec) {
		c.Process.User = specs.User{UID: 1000, GID: 1000}
		c.Process.Capabilities.Inheritable = nil
	})
	if err != nil {
		return "", err
	}
	const script = "grep -E 'Cap(Inh|Amb)' /proc/self/status | tr -d '\\n\\t'"
	const none = "CapInh:0000000000000000CapAmb:0000000000000000"
	if out, err := m.Try(script); err != nil || out != none {
		return out, err
	}
	id, err := m.Background("sleep 1000")
	if err != nil {
		return "", err
	}
	if out, err := m.Run("exec", "--cap", "CAP_NET_RAW", id, "sh", "-c", script); err == nil && !strings.HasPrefix(out, "CapInh:0000000000000000") {
		return "exec: " + out, nil
	}
	return "", nil
}

func releaseAgent(m *Machine) (string, error) {
	const script = `for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs 2>/dev/null | head -n 50); do
		echo 1 2>/dev/null >>$f && echo "written: $f"
	done
	unshare -Ur sh -c 'mkdir -p /tmp/c && mount -t cgroup -o rdma c /tmp/c && echo /x >/tmp/c/release_agent && echo mounted' 2>/dev/null
	true`
	out, err := m.Try(script)
	return strings.TrimSpace(out), err
}

func cgroupsAreSeen(m *Machine) error {
	return m.Expect("test -d /sys/fs/cgroup && ls /sys/fs/cgroup | grep -q . && echo yes", "yes\n")
}

// falseProc has a link to a directory of the image at /proc.
func falseProc(m *Machine) (string, error) {
	for _, to := range []string{"/tmp/false", "tmp/false", "../tmp/false"} {
		if err := errors.Join(m.Link("proc", to), os.MkdirAll(filepath.Join(m.Rootfs(), "tmp/false"), 0o755)); err != nil {
			return "", err
		}
		if harm, err := refused(m, "a container runs whose /proc is a link to "+to); harm != "" || err != nil {
			return harm, err
		}
	}
	return "", nil
}

// procWorks finds the file systems where they belong.
func procWorks(m *Machine) error {
	return m.Expect("stat -f -c %T /proc /sys | tr '\\n' ' '", "proc sysfs ")
}

// leakedDirectory takes each descriptor for the working directory.
func leakedDirectory(m *Machine) (string, error) {
	for n := 3; n < 16; n++ {
		if err := m.Configure(func(c *specs.Spec) { c.Process.Cwd = "/proc/self/fd/" + strconv.Itoa(n) }); err != nil {
			return "", err
		}
		if out, _ := m.Try("cat token; ls ../../../../../../.."); strings.Contains(out, Token) || strings.Contains(out, "lost+found") {
			return "descriptor " + strconv.Itoa(n) + " leads to the host", nil
		}
	}
	return "", nil
}

// directoryWorks has a working directory behind a link, and one that is to be
// made.
func directoryWorks(m *Machine) error {
	return errors.Join(m.Link("work", "/tmp"),
		m.Configure(func(c *specs.Spec) { c.Process.Cwd = "/work" }), m.Expect("pwd -P", "/tmp\n"),
		m.Configure(func(c *specs.Spec) { c.Process.Cwd = "/made/for/it" }), m.Expect("pwd", "/made/for/it\n"))
}

// makeThroughLink has a mount point that is missing behind a link to the
// canary.
func makeThroughLink(m *Machine) (string, error) {
	if err := errors.Join(m.Link("mnt/link", m.Canary), m.Tmpfs("/mnt/link/new/directory")); err != nil {
		return "", err
	}
	_, _ = m.Try("true")
	return "", nil // what is made in the canary is found by the caller
}

// makeInside has one behind a link that stays in the root.
func makeInside(m *Machine) error {
	return errors.Join(m.Link("mnt/link", "../var"), m.Tmpfs("/mnt/link/new/directory"),
		m.Expect("grep -c ' /var/new/directory ' /proc/self/mountinfo", "1\n"))
}

// onlyProc leaves the image its own /dev.
func onlyProc(c *specs.Spec) { c.Mounts = c.Mounts[:1] }

// maskByLink has a link where the null device belongs.
func maskByLink(m *Machine) (string, error) {
	err := errors.Join(m.Link("dev/null", "/proc/sys/kernel/core_pattern"), m.Configure(func(c *specs.Spec) {
		onlyProc(c)
		c.Linux.MaskedPaths = []string{"/proc/timer_list"}
	}))
	if err != nil {
		return "", err
	}
	if out, err := m.Try("stat -c '%t:%T %n' /proc/timer_list"); err == nil && out != "1:3 /proc/timer_list\n" {
		return "masked by " + out, nil
	}
	return "", nil
}

// maskWorks has a path masked by what belongs there.
func maskWorks(m *Machine) error {
	return errors.Join(m.Configure(func(c *specs.Spec) { c.Linux.MaskedPaths = []string{"/proc/timer_list"} }),
		m.Expect("stat -c %t:%T /proc/timer_list; echo x >/dev/null; cat /proc/timer_list | wc -c", "1:3\n0\n"))
}

// consoleByLink has a link to the canary where the console belongs.
func consoleByLink(m *Machine) (string, error) {
	err := errors.Join(m.Link("dev/console", filepath.Join(m.Canary, "token")), m.Configure(func(c *specs.Spec) {
		c.Process.Terminal = true
		c.Mounts = append(c.Mounts[:1], specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=620"}})
	}))
	if err != nil {
		return "", err
	}
	socket, take, err := console(m.Dir)
	if err != nil {
		return "", err
	}
	defer socket.Close()
	id := m.id()
	if err := m.Configure(func(c *specs.Spec) {
		c.Process.Args = []string{"sh", "-c", "cat /dev/console >/answer 2>&1 </dev/null & sleep 0.2; kill $!; true"}
	}); err != nil {
		return "", err
	}
	if err := m.command("run", "--detach", "--console-socket", socket.Addr().String(), "--bundle", m.Bundle(), id).Run(); err != nil {
		return "", nil // refused
	}
	defer take()() // the container's terminal lives as long
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if out, _ := m.Run("state", id); !strings.Contains(out, `"running"`) {
			break
		}
	}
	if b, _ := os.ReadFile(filepath.Join(m.Rootfs(), "answer")); strings.Contains(string(b), Token) {
		return "the console leads to the host", nil
	}
	return "", nil
}

// coverProc covers what the runtime writes to.
func coverProc(m *Machine) (string, error) {
	for _, dest := range []string{"/proc/self/attr", "/proc/sys", "/proc/thread-self", "/proc/1"} {
		err := m.Configure(func(c *specs.Spec) {
			c.Mounts = append(c.Mounts[:1:1], specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs"})
			c.Linux.Sysctl = map[string]string{"kernel.shmmni": "100"}
		})
		if err != nil {
			return "", err
		}
		if harm, err := refused(m, "it runs with a false "+dest); harm != "" || err != nil {
			return harm, err
		}
	}
	return "", nil
}

// devicesThroughLink has a link to the canary for its /dev.
func devicesThroughLink(m *Machine) (string, error) {
	if err := errors.Join(m.Link("dev", m.Canary), m.Configure(onlyProc)); err != nil {
		return "", err
	}
	_, _ = m.Try("true")
	return "", nil // what is made in the canary is found by the caller
}

// devicesInside has one to a directory of the image.
func devicesInside(m *Machine) error {
	return errors.Join(m.Link("dev", "devices"), os.MkdirAll(filepath.Join(m.Rootfs(), "devices"), 0o755), m.Configure(onlyProc),
		m.Expect("stat -c %t:%T /devices/zero", "1:5\n"))
}

func sysctls(m *Machine) (string, error) {
	for key, value := range map[string]string{
		"kernel.core_pattern": "|/bin/x", "net/../kernel/core_pattern": "|/bin/x", "kernel/core_pattern": "|/bin/x",
		"net.ipv4.../../kernel/core_pattern": "|/bin/x", "vm.panic_on_oom": "0", "net": "1", "": "1",
	} {
		if err := m.Configure(func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{key: value} }); err != nil {
			return "", err
		}
		if harm, err := refused(m, "it runs with the sysctl "+strconv.Quote(key)); harm != "" || err != nil {
			return harm, err
		}
	}
	err := m.Configure(func(c *specs.Spec) {
		c.Linux.Sysctl = map[string]string{"kernel.shmmni": "100+kernel.core_pattern=|/bin/x", "net.ipv4.ip_forward": "1\nkernel.core_pattern = |/bin/x"}
	})
	_, _ = m.Try("true")
	return "", err // core_pattern is compared by the caller
}

func sysctlWorks(m *Machine) error {
	return errors.Join(m.Configure(func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{"kernel.shm_rmid_forced": "1"} }),
		m.Expect("cat /proc/sys/kernel/shm_rmid_forced", "1\n"))
}

// linesInHome has line ends where a runtime might write what it is given.
func linesInHome(m *Machine) (string, error) {
	passwd := filepath.Join(m.Rootfs(), "etc/passwd")
	before, err := os.ReadFile(passwd)
	for _, end := range []string{"\n", "\r", "\r\n", "\u2028"} {
		err = errors.Join(err, m.Configure(func(c *specs.Spec) {
			c.Process.User = specs.User{UID: 1234}
			c.Process.Env = []string{"PATH=/bin", "HOME=/x" + end + "evil::0:0::/:/bin/sh"}
			c.Hostname = "host" + end + "evil"
		}))
		_, _ = m.Try("true")
	}
	after, err2 := os.ReadFile(passwd)
	if string(before) != string(after) {
		return "passwd is now " + string(after), nil
	}
	return "", errors.Join(err, err2)
}

// oddPasswd has what takes forever to read where the user is looked up.
func oddPasswd(m *Machine) (string, error) {
	passwd := filepath.Join(m.Rootfs(), "etc/passwd")
	err := m.Configure(func(c *specs.Spec) { c.Process.Env = []string{"PATH=/bin"} })
	for name, make := range map[string]func() error{
		"a pipe":     func() error { return syscall.Mkfifo(passwd, 0o644) },
		"/dev/zero":  func() error { return syscall.Mknod(passwd, syscall.S_IFCHR|0o644, 1<<8|5) },
		"10 GB":      func() error { return errors.Join(os.WriteFile(passwd, nil, 0o644), os.Truncate(passwd, 10<<30)) },
		"the canary": func() error { return os.Symlink(filepath.Join(m.Canary, "token"), passwd) },
	} {
		if err = errors.Join(err, os.RemoveAll(passwd), make()); err != nil {
			return "", err
		}
		if err := m.Configure(func(c *specs.Spec) { c.Process.Args = []string{"/bin/sh", "-c", "echo $HOME"} }); err != nil {
			return "", err
		}
		cmd := m.command("run", "--bundle", m.Bundle(), m.id())
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		switch {
		case time.Since(begin) > patience/2:
			return fmt.Sprintf("passwd is %s: it takes %s", name, time.Since(begin)), nil
		case usage != nil && usage.Maxrss > 256<<10:
			return fmt.Sprintf("passwd is %s: it takes %d MB", name, usage.Maxrss>>10), nil
		case strings.Contains(string(out), Token):
			return "passwd is " + name + ": the host's was read", nil
		case err != nil && len(out) == 0:
			return "", fmt.Errorf("passwd is %s: %w without a word", name, err)
		}
	}
	return "", nil
}

// userOfNobody is the number that the kernel takes for none.
func userOfNobody(m *Machine) (string, error) {
	if err := m.Configure(func(c *specs.Spec) { c.Process.User.UID = 1<<32 - 1 }); err != nil {
		return "", err
	}
	if out, err := m.Try("id -u"); err == nil {
		return "it runs as " + out, nil
	}
	if err := m.Configure(func(c *specs.Spec) { c.Process.User.UID = 0 }); err != nil {
		return "", err
	}
	id, err := m.Background("sleep 1000")
	if err != nil {
		return "", err
	}
	for _, u := range []string{"4294967296", "4294967295", "-1", "0x0", "+0", " 0", "1e3", "1000:4294967296", "1000:-1"} {
		if out, err := m.Run("exec", "--user", u, id, "id", "-u"); err == nil {
			return fmt.Sprintf("exec --user %q runs as %s", u, strings.TrimSpace(out)), nil
		}
	}
	return "", nil
}

// userWorks is the highest number that is a user.
func userWorks(m *Machine) error {
	return errors.Join(m.Configure(func(c *specs.Spec) { c.Process.User = specs.User{UID: 1<<32 - 2, GID: 5} }),
		m.Expect("grep Uid /proc/self/status", "Uid:\t4294967294\t4294967294\t4294967294\t4294967294\n"))
}

func groupsAre(m *Machine, want string) (string, error) {
	if err := m.Configure(func(c *specs.Spec) { c.Process.Args = []string{"sh", "-c", "grep Groups /proc/self/status"} }); err != nil {
		return "", err
	}
	cmd := m.command("run", "--bundle", m.Bundle(), m.id())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{3, 4, 27}}} // the runtime's own
	out, err := cmd.CombinedOutput()
	if got := strings.Join(strings.Fields(string(out)), " "); got != want {
		return got, err
	}
	return "", err
}

// groups are the runtime's own, which no container must have.
func groups(m *Machine) (string, error) {
	if err := m.Configure(func(c *specs.Spec) { c.Process.User = specs.User{UID: 1000, GID: 1000} }); err != nil {
		return "", err
	}
	return groupsAre(m, "Groups:")
}

func groupsWork(m *Machine) error {
	err := m.Configure(func(c *specs.Spec) {
		c.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{7, 50}}
	})
	got, err2 := groupsAre(m, "Groups: 7 50")
	if got != "" {
		return fmt.Errorf("the groups are %q", got)
	}
	return errors.Join(err, err2)
}
