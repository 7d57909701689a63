package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"lade/cmd/lade-toolbox/cmdline"
)

// mountLine is one line of /proc/self/mounts.
type mountLine struct{ source, target, kind, options string }

func mounts() ([]mountLine, error) {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var all []mountLine
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) >= 4 {
			all = append(all, mountLine{unescape.Replace(f[0]), unescape.Replace(f[1]), f[2], f[3]})
		}
	}
	return all, nil
}

// mountFlags are the options that are flags of the system call; 0 stands for
// those that take one away.
func mountFlags() map[string]uintptr {
	return map[string]uintptr{
		"ro": syscall.MS_RDONLY, "nosuid": syscall.MS_NOSUID, "nodev": syscall.MS_NODEV, "noexec": syscall.MS_NOEXEC, "bind": syscall.MS_BIND, "rbind": syscall.MS_BIND | syscall.MS_REC,
		"remount": syscall.MS_REMOUNT, "noatime": syscall.MS_NOATIME, "relatime": syscall.MS_RELATIME, "private": syscall.MS_PRIVATE, "rprivate": syscall.MS_PRIVATE | syscall.MS_REC,
		"shared": syscall.MS_SHARED, "slave": syscall.MS_SLAVE, "rw": 0, "suid": 0, "dev": 0, "exec": 0, "defaults": 0,
	}
}

func mount(args []string) error {
	o, rest, err := cmdline.Getopt(args, "t:o:rwn", map[string]byte{"types": 't', "options": 'o'})
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		all, err := mounts()
		for _, m := range all {
			fmt.Printf("%s on %s type %s (%s)\n", m.source, m.target, m.kind, m.options)
		}
		return err
	}
	var flags uintptr
	var data []string
	known := mountFlags()
	for _, list := range o['o'] {
		for opt := range strings.SplitSeq(list, ",") {
			if f, ok := known[opt]; ok {
				flags |= f
			} else if opt != "" {
				data = append(data, opt)
			}
		}
	}
	if o.Has('r') {
		flags |= syscall.MS_RDONLY
	}
	source, target := rest[0], rest[len(rest)-1]
	if len(rest) > 2 {
		return cmdline.Usage("too many operands")
	}
	if err := syscall.Mount(source, target, o.Last('t', ""), flags, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	return nil
}

func umount(args []string) error {
	o, rest, err := cmdline.Getopt(args, "lfr", map[string]byte{"lazy": 'l', "force": 'f'})
	if err != nil {
		return err
	}
	flags := 0
	if o.Has('l') {
		flags |= syscall.MNT_DETACH
	}
	if o.Has('f') {
		flags |= syscall.MNT_FORCE
	}
	return cmdline.Each(rest, func(p string) error {
		if err := syscall.Unmount(p, flags); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		return nil
	})
}

func df(args []string) error {
	o, rest, err := cmdline.Getopt(args, "hkPTi", nil)
	if err != nil {
		return err
	}
	all, err := mounts()
	if err != nil {
		return err
	}
	show := func(blocks uint64, size int64) string {
		if o.Has('h') {
			return cmdline.Human(int64(blocks) * size)
		}
		return fmt.Sprint(int64(blocks) * size / 1024)
	}
	fmt.Printf("%-20s %12s %12s %12s %4s %s\n", "Filesystem", map[bool]string{true: "Size", false: "1K-blocks"}[o.Has('h')], "Used", "Available", "Use%", "Mounted on")
	var errs []error
	line := func(source, path, target string) {
		var s syscall.Statfs_t
		if err := syscall.Statfs(path, &s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			return
		}
		if s.Blocks == 0 && len(rest) == 0 {
			return
		}
		used := s.Blocks - s.Bfree
		percent := uint64(0)
		if used+s.Bavail > 0 {
			percent = (used*100 + used + s.Bavail - 1) / (used + s.Bavail)
		}
		fmt.Printf("%-20s %12s %12s %12s %3d%% %s\n", source, show(s.Blocks, s.Bsize), show(used, s.Bsize), show(s.Bavail, s.Bsize), percent, target)
	}
	if len(rest) == 0 {
		for _, m := range all {
			line(m.source, m.target, m.target)
		}
	}
	for _, p := range rest {
		best := mountLine{}
		for _, m := range all {
			if (p == m.target || strings.HasPrefix(p, strings.TrimSuffix(m.target, "/")+"/")) && len(m.target) >= len(best.target) {
				best = m
			}
		}
		line(best.source, p, best.target)
	}
	return errors.Join(errs...)
}
