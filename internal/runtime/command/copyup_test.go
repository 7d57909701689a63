package command_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// TestCopyUp: a tmpfs with tmpcopyup begins with what it hides, and writing to
// it leaves that alone. The place may be reached by a link, and so may the
// host's, which must not be copied.
func TestCopyUp(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, userNS := range map[string]bool{"host's users": false, "user namespace": true} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, func(c *specs.Spec) {
				options := []string{"rprivate", "nosuid", "nodev", "tmpcopyup"}
				c.Mounts = append(c.Mounts,
					specs.Mount{Destination: "/var/data", Type: "tmpfs", Source: "tmpfs", Options: options},
					specs.Mount{Destination: "/link", Type: "tmpfs", Source: "tmpfs", Options: append(options, "mode=711", "ro")},
					specs.Mount{Destination: "/new", Type: "tmpfs", Source: "tmpfs", Options: options},
				)
				c.Root.Readonly = false
				if userNS {
					c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
					c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
					c.Linux.GIDMappings = c.Linux.UIDMappings
				}
			})
			dir := filepath.Join(m.rootfs, "var/data")
			if err := errors.Join(
				os.MkdirAll(filepath.Join(dir, "sub"), 0o755),
				os.WriteFile(filepath.Join(dir, "sub/file"), []byte("text\n"), 0o604),
				os.WriteFile(filepath.Join(dir, "set"), nil, 0o644),
				os.Symlink(secret, filepath.Join(dir, "sub/out")),
				os.MkdirAll(filepath.Join(m.rootfs, "var/other"), 0o755),
				os.Symlink("../../../var/other", filepath.Join(m.rootfs, "link")),
				unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
				unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
			); err != nil {
				t.Fatal(err)
			}
			if userNS {
				if out, err := kerneltest.Command(t, "chown", "-hR", "200000:200000", m.rootfs).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				reachable(t, m.rootfs)
			}
			base := 0
			if userNS {
				base = 200000
			}
			if err := errors.Join(
				os.Chown(filepath.Join(dir, "sub/file"), base+7, base+8), unix.Chmod(filepath.Join(dir, "sub"), 0o1751),
				os.Lchown(filepath.Join(dir, "sub/out"), base+9, base+9), unix.Chmod(filepath.Join(dir, "set"), 0o4755), os.Chmod(dir, 0o750),
			); err != nil {
				t.Fatal(err)
			}
			got := m.sh(`cd /var/data; stat -c '%n %A %u:%g' . * sub/*; readlink sub/out; cat sub/file; cat sub/out 2>/dev/null
echo $(stat -f -c %T .), $(stat -f -c %T /new); stat -c %a /link/.; touch /link/x 2>/dev/null || echo read-only; rm -r sub; ls /new | wc -l`)
			want := `. drwxr-x--- 0:0
pipe prw------- 0:0
set -rwsr-xr-x 0:0
sub drwxr-x--t 0:0
sub/file -rw----r-- 7:8
sub/out lrwxrwxrwx 9:9
` + secret + `
text
tmpfs, tmpfs
711
read-only
0
`
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "sub/file")); string(b) != "text\n" {
				t.Errorf("the original is %q, %v", b, err)
			}
		})
	}
	t.Run("hooks", func(t *testing.T) {
		m := newMachine(t, func(c *specs.Spec) {
			c.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "size=64k"}})
		})
		if err := os.WriteFile(filepath.Join(m.rootfs, "etc/one"), []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := m.sh("cat /etc/one"); got != "1" {
			t.Errorf("got %q", got)
		}
		if err := os.WriteFile(filepath.Join(m.rootfs, "etc/large"), make([]byte, 1<<17), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); err == nil || !strings.Contains(out, "/etc up to the tmpfs there") {
			t.Errorf("what does not fit: %q, %v", out, err)
		}
	})
	t.Run("joined user namespace, and hooks", func(t *testing.T) {
		m := newMachine(t, func(c *specs.Spec) {
			c.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
			c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
			c.Linux.GIDMappings = c.Linux.UIDMappings
			c.Mounts = append(c.Mounts,
				specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
				specs.Mount{Destination: "/root", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
			)
		})
		if err := os.WriteFile(filepath.Join(m.rootfs, "etc/one"), []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := kerneltest.Command(t, "chown", "-hR", "200000:200000", m.rootfs).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		reachable(t, m.rootfs)
		m.background("sleep", "1000")
		pid, err := os.ReadFile(filepath.Join(m.bundle, "pid"))
		if err != nil {
			t.Fatal(err)
		}
		m.configure(func(c *specs.Spec) {
			c.Linux.Namespaces[len(c.Linux.Namespaces)-1].Path = "/proc/" + string(pid) + "/ns/user"
			c.Linux.CgroupsPath += "-2"
		})
		if got := m.sh("cat /etc/one; stat -c ' %u:%g' /etc/one"); got != "1 0:0\n" {
			t.Errorf("got %q", got)
		}
	})
}
