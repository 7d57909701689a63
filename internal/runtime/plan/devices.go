package plan

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// defaultDevices are the ones that every container has.
var defaultDevices = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"tty", 5, 0}, {"random", 1, 8}, {"urandom", 1, 9}}

// defaultLinks stand in /dev besides.
var defaultLinks = [][2]string{
	{"pts/ptmx", "ptmx"},
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
}

// ownDev reports whether the container's /dev is its own, and not bound from
// somewhere.
func (b *builder) ownDev() bool {
	for i := range b.cfg.Mounts {
		m := &b.cfg.Mounts[i]
		if o, err := mountopt.Parse(i, m); err == nil && o.Bind && path.Clean(m.Destination) == "/dev" {
			return false
		}
	}
	return true
}

// devices fills /dev. It is taken by descriptor, below the root, once: what
// lies at /dev after that does not matter (CVE-2026-41579).
func (b *builder) devices() error {
	if !b.ownDev() {
		return nil
	}
	open := step.Openat2(rootFD, "/dev", step.PathOnly|unix.O_DIRECTORY, step.InRoot, devFD)
	open.Tolerate = []syscall.Errno{syscall.ENOENT}
	open.Else = []program.Step{
		{Call: "mkdirat", Args: []program.Arg{program.FD(rootFD), program.String("dev"), program.Octal(0o755)}, Tolerate: []syscall.Errno{syscall.EEXIST}},
		step.Openat2(rootFD, "/dev", step.PathOnly|unix.O_DIRECTORY, step.InRoot, devFD),
	}
	b.add(step.Say(open, "find /dev in the root"))
	given := map[string]bool{}
	for i := range b.cfg.Linux.Devices {
		given[path.Clean(b.cfg.Linux.Devices[i].Path)] = true
	}
	for _, d := range defaultDevices {
		if !given["/dev/"+d.name] {
			mode := unix.S_IFCHR | uint32(0o666)
			b.device("/dev/"+d.name, mode, int(unix.Mkdev(d.major, d.minor)), "every container has it")
		}
	}
	for i := range b.cfg.Linux.Devices {
		if err := b.configured(i, &b.cfg.Linux.Devices[i]); err != nil {
			return err
		}
	}
	for _, l := range defaultLinks {
		b.add(program.Step{Call: "symlinkat", Args: []program.Arg{program.String(l[0]), program.FD(devFD), program.String(l[1])}, Tolerate: []syscall.Errno{syscall.EEXIST}, Why: "every container has it"})
	}
	b.add(program.Step{
		Call: "faccessat2", Args: []program.Arg{program.CWD(), program.String("/proc/kcore"), program.Int(0), program.Int(0)},
		Tolerate: []syscall.Errno{syscall.ENOENT, syscall.EACCES}, Why: "kernels need not have it",
		Then: []program.Step{{
			Call: "symlinkat", Args: []program.Arg{program.String("/proc/kcore"), program.FD(devFD), program.String("core")},
			Tolerate: []syscall.Errno{syscall.EEXIST},
		}},
	})
	return nil
}

// configured makes one of linux.devices.
func (b *builder) configured(i int, d *specs.LinuxDevice) error {
	label := step.Field("linux.devices", i)
	clean := path.Clean(d.Path)
	switch {
	case !path.IsAbs(d.Path) || clean == "/":
		return errdefs.New(errdefs.Invalid, "%s.path: %q is no absolute path of a device", label, d.Path)
	case clean == "/dev/ptmx":
		return nil // it is a link to that of the container's own devpts
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(*d.FileMode) & 0o7777
	}
	switch d.Type {
	case "b":
		mode |= unix.S_IFBLK
	case "p":
		mode |= unix.S_IFIFO
	case "c", "u":
		mode |= unix.S_IFCHR
	default:
		return errdefs.New(errdefs.Invalid, "%s.type: %q is not one of c, b, u and p", label, d.Type)
	}
	b.device(d.Path, mode, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor))), label)
	if d.UID == nil && d.GID == nil || b.userNS {
		return nil
	}
	var uid, gid uint32
	if d.UID != nil {
		uid = *d.UID
	}
	if d.GID != nil {
		gid = *d.GID
	}
	if uid != 0 || gid != 0 {
		b.add(
			step.Openat2(rootFD, d.Path, step.PathOnly, step.InRoot|unix.RESOLVE_NO_SYMLINKS, placeFD),
			program.Step{Call: "fchownat", Args: []program.Arg{program.FD(placeFD), program.String(""), program.Int(uid), program.Int(gid), program.Flags(unix.AT_EMPTY_PATH, step.AtFlags)}, Why: label},
			step.Close(placeFD),
		)
	}
	return nil
}

// device makes a node, or, where the kernel lets nobody make one, in a user
// namespace, binds the host's.
func (b *builder) device(name string, mode uint32, dev int, label string) {
	if b.userNS || !b.f.Caps.Has(unix.CAP_MKNOD) || b.f.Nested {
		b.add(step.Why(step.Say(step.CloneTree(program.CWD(), name, false, mntFD), "open the host's "+name), label+"; a user namespace may not make devices"))
		b.place(name, false, step.InRoot, label)
		b.add(step.Say(step.Attach(mntFD, placeFD), "bind the host's "+name), step.Close(placeFD), step.Close(mntFD))
		return
	}
	dir, base := devFD, strings.TrimPrefix(path.Clean(name), "/dev/")
	if strings.Contains(base, "/") {
		// Its directory is made as that of a mount would be.
		dir = placeFD
		b.place(path.Dir(path.Clean(name)), true, step.InRoot, label)
		base = path.Base(name)
	}
	major, minor := unix.Major(uint64(dev)), unix.Minor(uint64(dev))
	make := program.Step{
		Call: "mknodat", Args: []program.Arg{program.FD(dir), program.String(base), program.Octal(mode), program.Named(uint64(dev), "makedev("+strconv.Itoa(int(major))+", "+strconv.Itoa(int(minor))+")")},
		Tolerate: []syscall.Errno{syscall.EEXIST}, Why: label, Say: "make the device " + name,
	}
	if strings.HasPrefix(label, "linux.devices") {
		make.Else = sameDevice(name, dir, mode, dev)
	}
	b.add(make)
	if dir == placeFD {
		b.add(step.Close(placeFD))
	}
}

// sameDevice verifies that what is there already is the device that was to be
// made.
func sameDevice(name string, dir program.Slot, mode uint32, dev int) []program.Step {
	const node program.Slot = "node"
	base := path.Base(name)
	rdev := uint64(unix.Major(uint64(dev))) | uint64(unix.Minor(uint64(dev)))<<32
	other := "make the device " + name + ": there is something else in the root"
	return []program.Step{
		step.Say(step.Openat2(dir, base, step.PathOnly|unix.O_NOFOLLOW, step.InRoot, node), other),
		{Call: "statx", Args: []program.Arg{
			program.FD(node), program.String(""), program.Flags(unix.AT_EMPTY_PATH, step.AtFlags), program.Flags(unix.STATX_TYPE, step.StatFlags), program.Buffer("stat", 256),
		}},
		{Call: "check", Args: program.CheckField("stat", 28, unix.S_IFMT, uint64(mode&unix.S_IFMT), uint64(syscall.EEXIST)), Say: other},
		{Call: "check", Args: program.CheckField("stat", 128, ^uint64(0), rdev, uint64(syscall.EEXIST)), Say: other},
		step.Close(node),
	}
}

// terminal opens a pseudo terminal of the container's own devpts, hands its
// master to whoever listens at the console socket, and makes it the child's.
func (b *builder) terminal() {
	if !b.proc.Terminal {
		return
	}
	const master, slave program.Slot = "master", "slave"
	zero := program.Bytes(make([]byte, 4), "0")
	dir, name := rootFD, "dev/pts/ptmx"
	if b.hasDevpts() && b.newMount && !b.entering {
		dir, name = ptsFD, "ptmx"
	}
	b.add(step.Why(step.Say(step.Openat2(dir, name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, step.InRoot, master), "open a pseudo terminal of the container's devpts"), "process.terminal"))
	if dir == rootFD {
		// Whatever else stands there in the image is refused (CVE-2025-52565).
		b.do("process.terminal: it is on a devpts", "fstatfs", program.FD(master), program.Buffer("statfs", 120))
		b.add(program.Step{Call: "check", Args: program.Check("statfs", 0xffffffff, unix.DEVPTS_SUPER_MAGIC, uint64(syscall.ENOTTY)), Say: "/dev/pts/ptmx is not on a devpts"})
	}
	b.add(
		program.Step{Call: "ioctl", Args: []program.Arg{program.FD(master), program.Named(unix.TIOCSPTLCK, "TIOCSPTLCK"), zero}},
		program.Step{Call: "ioctl", Yield: slave, Args: []program.Arg{program.FD(master), program.Named(unix.TIOCGPTPEER, "TIOCGPTPEER"), program.Flags(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, step.OpenFlags)}, Why: "by descriptor: no name can be in the way"},
	)
	if b.in.PlainTerminal {
		b.do("process.terminal: newlines stay as they are", "ioctl", program.FD(slave), program.Named(unix.TCSETS, "TCSETS"), program.Struct(plainTermios(), func() string { return "a new terminal's modes without ONLCR" }))
	}
	if s := b.proc.ConsoleSize; s != nil {
		size := []byte{byte(s.Height), byte(s.Height >> 8), byte(s.Width), byte(s.Width >> 8), 0, 0, 0, 0}
		b.do("process.consoleSize", "ioctl", program.FD(slave), program.Named(unix.TIOCSWINSZ, "TIOCSWINSZ"), program.Bytes(size, fmt.Sprintf("%d rows, %d columns", s.Height, s.Width)))
	}
	if u := b.proc.User.UID; u != 0 {
		b.do("process.user owns its terminal", "fchownat", program.FD(slave), program.String(""), program.Int(u), program.Int(int32(-1)), program.Flags(unix.AT_EMPTY_PATH, step.AtFlags))
	}
	if b.newMount && !b.entering {
		b.console(slave)
	}
	b.add(
		step.Say(program.Step{Call: "sendmsg", Args: []program.Arg{program.FD(Console), program.FDMessage(master, "/dev/ptmx"), program.Int(0)}, Why: "process.terminal: the console socket gets the master"}, "send the terminal to the console socket"),
		step.Close(Console), step.Close(master),
		program.Step{Call: "ioctl", Args: []program.Arg{program.FD(slave), program.Named(unix.TIOCSCTTY, "TIOCSCTTY"), program.Int(0)}, Why: "process.terminal: the controlling terminal"},
	)
	for fd := range 3 {
		b.do("process.terminal", "dup3", program.FD(slave), program.Int(fd), program.Int(0))
	}
	b.add(step.Close(slave))
}

// plainTermios is the kernel's struct termios of a new terminal, as the header
// tty.h has it, without ONLCR.
func plainTermios() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, unix.ICRNL|unix.IXON)
	b = le.AppendUint32(b, unix.OPOST)
	b = le.AppendUint32(b, unix.B38400|unix.CS8|unix.CREAD|unix.HUPCL)
	b = le.AppendUint32(b, unix.ISIG|unix.ICANON|unix.ECHO|unix.ECHOE|unix.ECHOK|unix.ECHOCTL|unix.ECHOKE|unix.IEXTEN)
	b = append(b, 0) // the line discipline
	control := make([]byte, 19)
	for i, c := range map[int]byte{
		unix.VINTR: 'C' - '@', unix.VQUIT: '\\' - '@', unix.VERASE: 0x7f, unix.VKILL: 'U' - '@', unix.VEOF: 'D' - '@', unix.VMIN: 1,
		unix.VSTART: 'Q' - '@', unix.VSTOP: 'S' - '@', unix.VSUSP: 'Z' - '@', unix.VREPRINT: 'R' - '@', unix.VDISCARD: 'O' - '@',
		unix.VWERASE: 'W' - '@', unix.VLNEXT: 'V' - '@',
	} {
		control[i] = c
	}
	return append(b, control...)
}

// console binds the terminal over /dev/console.
func (b *builder) console(slave program.Slot) {
	if !b.ownDev() {
		return
	}
	b.add(
		program.Step{Call: "mknodat", Args: []program.Arg{program.FD(devFD), program.String("console"), program.Octal(unix.S_IFREG | 0o600), program.Int(0)}, Tolerate: []syscall.Errno{syscall.EEXIST}, Why: "process.terminal: /dev/console"},
		step.Openat2(devFD, "console", step.PathOnly|unix.O_NOFOLLOW, step.InRoot|unix.RESOLVE_NO_SYMLINKS, placeFD),
		step.Why(step.CloneTree(program.FD(slave), "", false, mntFD), "the terminal itself, never a path (CVE-2025-52565)"),
		step.Say(step.Attach(mntFD, placeFD), "bind the terminal over /dev/console"),
		step.Close(mntFD), step.Close(placeFD),
	)
}
