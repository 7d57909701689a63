package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// powerful gives a configuration a capability that containers do not have.
func powerful(c *specs.Spec, capability string) {
	for _, set := range []*[]string{&c.Process.Capabilities.Bounding, &c.Process.Capabilities.Effective, &c.Process.Capabilities.Permitted} {
		*set = append(*set, capability)
	}
}

// TestLockedOptions: whoever may mount in a container's user namespace cannot
// take away an option that a mount came with, be it the host's or asked for;
// what nobody asked for is its own.
func TestLockedOptions(t *testing.T) {
	const hostile = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	locked := mountpoint(t, hostile, unix.MS_SHARED)
	open := mountpoint(t, 0, unix.MS_SHARED)
	if err := os.WriteFile(filepath.Join(open, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	bind := func(c *specs.Spec) {
		mapped(t, c)
		powerful(c, "CAP_SYS_ADMIN")
		c.Process.NoNewPrivileges = false
		for _, b := range []struct{ to, from, options string }{
			{"/host", locked, "rbind"},
			{"/asked", open, "rbind,ro,nosuid,nodev,noexec"},
			{"/recursive", open, "rbind,rro"},
			{"/file", filepath.Join(open, "file"), "bind,ro"},
			{"/free", open, "rbind"},
		} {
			c.Mounts = append(c.Mounts, specs.Mount{Destination: b.to, Type: "bind", Source: b.from, Options: strings.Split(b.options, ",")})
		}
	}
	const script = `
for option in rw suid dev exec; do
	keep=ro,nosuid,nodev,noexec
	for place in /host /asked; do
		mount -o remount,bind,$(echo $keep | sed "s/ro/$option/;t;s/no$option/$option/") $place 2>/dev/null && echo "$place has become $option"
	done # all places
done # options
for place in /recursive /file; do mount -o remount,bind,rw $place 2>/dev/null && echo "$place can be written to"; done
mount -o remount,bind,ro /free || echo "/free stays writable"
mount -o remount,bind,rw /free || echo "/free stays read-only"
mkdir /mine && mount -t tmpfs mine /mine && mount -o remount,bind,ro /mine && mount -o remount,bind,rw /mine && touch /mine/x || echo "no mounts of its own"
mount --bind /free /mine && umount /mine || echo "no binds of its own"
`
	m := newMachine(t, bind)
	if got := m.sh(script); got != "" {
		t.Errorf("own user namespace:\n%s", got)
	}
	t.Run("joined", func(t *testing.T) {
		owner := newMachine(t, func(c *specs.Spec) { mapped(t, c) })
		id := owner.background("sleep", "1000")
		m := newMachine(t, bind)
		m.configure(func(c *specs.Spec) {
			for i := range c.Linux.Namespaces {
				if ns := &c.Linux.Namespaces[i]; ns.Type == specs.UserNamespace {
					ns.Path = owner.namespace(id, "user")
				}
			}
			c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
		})
		if got := m.sh(script); got != "" {
			t.Errorf("joined user namespace:\n%s", got)
		}
	})
	if left, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(left), "/tree") {
		t.Errorf("mounts of the stage are left, %v", err)
	}
}

// TestLockedRoot: neither does the root lose what the host has it mounted with.
func TestLockedRoot(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		mapped(t, c)
		powerful(c, "CAP_SYS_ADMIN")
		if err := unix.Mount(c.Root.Path, c.Root.Path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(c.Root.Path, unix.MNT_DETACH) })
		if err := unix.Mount("", c.Root.Path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
			t.Fatal(err)
		}
	})
	if got := m.sh("mount -o remount,bind,suid,dev / 2>/dev/null && echo yes; " + flagsAt("/")); !strings.HasPrefix(got, "rw,nosuid,nodev") {
		t.Errorf("the root's options: %q", got)
	}
}
