package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// canary is a secret of the host's in a directory that nothing may be written
// to.
type canary struct{ dir, token string }

func newCanary(t *testing.T) canary {
	t.Helper()
	c := canary{t.TempDir(), "the-host's-secret"}
	if err := os.WriteFile(c.dir+"/secret", []byte(c.token), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// check fails the test if the directory is not as it was.
func (c canary) check(t *testing.T, after string) {
	t.Helper()
	list, err := os.ReadDir(c.dir)
	text, rerr := os.ReadFile(c.dir + "/secret")
	if err != nil || rerr != nil || len(list) != 1 || string(text) != c.token {
		t.Fatalf("%s: the host was reached: %v, %q (%v, %v)", after, list, text, err, rerr)
	}
}

// image imports a root of the given files: a name that ends in a slash is a
// directory, a text that begins with -> a link.
func (h *host) image(name string, files map[string]string, changes ...string) {
	h.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		hd := &tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(text))}
		if target, ok := strings.CutPrefix(text, "->"); ok {
			hd.Typeflag, hd.Size, hd.Linkname, text = tar.TypeSymlink, 0, target, ""
		}
		if strings.HasSuffix(name, "/") {
			hd.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(hd); err != nil {
			h.t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	if r := h.ladeIn(&b, append(args, "-", name)...); r.code != 0 {
		h.t.Fatal(r.stderr)
	}
}

// TestForeignPrograms has an image in which every program and library that an
// engine may be tempted to run or load writes on the host if it is run there
// (rows 27, 25): by its path, which on the host is the canary.
func TestForeignPrograms(t *testing.T) {
	h, c := newHost(t), newCanary(t)
	files := map[string]string{"etc/": "", "etc/passwd": "root:x:0:0::/:/bin/sh\n", "srv/": "", "srv/file": "text"}
	trap := fmt.Sprintf("#!/bin/sh\necho reached >>%s/%s\n", c.dir, "run")
	for _, n := range []string{"xz", "unpigz", "pigz", "gzip", "ps", "nsenter", "tar", "unshare", "mount", "newuidmap", "nft", "iptables"} {
		for _, d := range []string{"bin/", "usr/bin/", "sbin/", "usr/local/bin/"} {
			files[d+n] = trap
		}
	}
	for _, n := range []string{"libnss_files.so.2", "libnss_compat.so.2", "libc.so.6"} {
		files["lib/x86_64-linux-gnu/"+n], files["usr/lib/"+n] = trap, trap
	}
	files["etc/nsswitch.conf"] = "passwd: compat files\n"
	h.image("traps", files)

	// That the trap is one: run on the host, it is seen.
	probe := t.TempDir()
	script := strings.ReplaceAll(trap, c.dir, probe)
	if err := os.WriteFile(probe+"/ps", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(probe + "/ps").Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(probe + "/run"); err != nil {
		t.Fatal("the trap does not work")
	}

	h.must("create", "--name", "trap", "traps", "/bin/none")
	h.must("run", "-d", "--name", "alive", "-v", "/x", "--mount", "type=image,src=traps,dst=/traps", "lade/toolbox", "sleep", "1000")
	for _, args := range [][]string{
		{"cp", "trap:/srv", t.TempDir()},
		{"cp", "trap:/srv/file", "-"},
		{"cp", "/etc/hostname", "trap:/srv/in"},
		{"export", "-o", t.TempDir() + "/x.tar", "trap"},
		{"diff", "trap"},
		{"commit", "trap", "traps2"},
		{"top", "alive"},
		{"stats", "--no-stream", "alive"},
		{"inspect", "trap"},
		{"save", "-o", t.TempDir() + "/s.tar", "traps"},
	} {
		h.must(args...)
		c.check(t, strings.Join(args, " "))
	}
}

// TestForeignLinks has an image with a link to the host wherever the engine
// reads, writes or makes something for a container (rows 25, 28, 29).
func TestForeignLinks(t *testing.T) {
	h, c := newHost(t), newCanary(t)
	up := "->" + strings.Repeat("../", 20) + c.dir[1:]
	box, err := os.ReadFile(h.bin + "/lade-toolbox")
	if err != nil {
		t.Skip("no toolbox: " + err.Error())
	}
	h.image("links", map[string]string{
		"bin/": "", "bin/sh": string(box), "bin/cat": "->sh", "bin/ls": "->sh", "bin/sleep": "->sh", "bin/true": "->sh", "bin/env": "->sh",
		"etc/": "", "etc/passwd": "->" + c.dir + "/secret", "etc/group": up + "/secret", "etc/hosts": "->" + c.dir + "/new", "etc/hostname": up + "/new", "etc/resolv.conf": "->" + c.dir + "/new2",
		"vol": "->" + c.dir, "work": up, "mnt": "->" + c.dir, "srv/": "", "run/": "", "var/": "", "var/run": "->/run", "run/file": "legal",
	}, "VOLUME /vol", "VOLUME /../../.."+c.dir, "WORKDIR /work/made")
	here := filepath.Join(c.dir, "x")
	for _, args := range [][]string{
		{"run", "--rm", "links", "true"},
		{"run", "--rm", "--userns=host", "links", "true"},
		{"run", "--rm", "--user", "joe", "links", "true"},
		{"run", "--rm", "-v", "data:/vol/x", "links", "true"},
		{"run", "--rm", "-v", "data2:/mnt", "links", "true"},
		{"run", "--rm", "--tmpfs", "/mnt/t", "links", "true"},
		{"run", "--rm", "-w", here, "links", "true"},
		{"run", "--rm", "--mount", "type=image,src=links,dst=/srv/i,image-subpath=vol", "lade/toolbox", "true"},
		{"create", "--name", "links", "links", "sleep", "1000"},
		{"cp", "/etc/hostname", "links:/vol/x"},
		{"cp", "/etc/hostname", "links:/mnt/x"},
		{"cp", "links:/etc/passwd", t.TempDir()},
		{"cp", "-L", "links:/etc/passwd", t.TempDir()},
		{"cp", "-L", "links:/mnt", t.TempDir()},
		{"export", "-o", t.TempDir() + "/x", "links"},
		{"diff", "links"},
		{"commit", "links", "links2"},
		{"start", "links"},
		{"exec", "-w", here, "links", "true"},
		{"cp", "/etc/hostname", "links:/vol/x"},
		{"cp", "-L", "links:/mnt", t.TempDir()},
	} {
		r := h.lade(args...)
		c.check(t, strings.Join(args, " "))
		if strings.Contains(r.stdout+r.stderr, c.token) {
			t.Errorf("%v shows the host's secret", args)
		}
	}
	// What was copied up has nothing of the host's.
	for v := range strings.FieldsSeq(h.must("volume", "ls", "-q")) {
		if out := h.must("run", "--rm", "-v", v+":/v", "lade/toolbox", "sh", "-c", "cat /v/* 2>/dev/null; true"); strings.Contains(out, c.token) {
			t.Errorf("volume %s holds the host's secret", v)
		}
	}
	// The legal neighbours: links that stay in the image.
	h.must("cp", "links:/var/run/file", t.TempDir())
	h.must("cp", "/etc/hostname", "links:/var/run/")
	if got := h.must("exec", "links", "cat", "/var/run/file"); got != "legal" {
		t.Errorf("across /var/run: %q", got)
	}
}

// TestOthersOnHost has somebody else on the host look for what containers and
// volumes hold (row 23): a set-uid program in a volume is out of reach.
func TestOthersOnHost(t *testing.T) {
	h := newHost(t)
	for _, p := range []string{h.dir, filepath.Dir(h.dir)} {
		_ = os.Chmod(p, 0o755) // what encloses the engine's directories hides nothing here
	}
	h.must("run", "-d", "--name", "box", "-v", "data:/data", "lade/toolbox", "sh", "-c", "touch /data/suid /suid; chmod 4755 /data/suid /suid; sleep 1000")
	seen := func(path string) bool {
		c := exec.Command("stat", path)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000, NoSetGroups: false}}
		return c.Run() == nil
	}
	public := h.dir + "/public"
	if err := os.WriteFile(public, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !seen(public) {
		t.Fatal("the probe sees nothing at all")
	}
	below := 0
	for _, top := range []string{h.dir + "/d", h.dir + "/s"} {
		err := filepath.WalkDir(top, func(p string, _ os.DirEntry, err error) error {
			if err != nil || p == top {
				return nil //nolint:nilerr // it went while we looked
			}
			if below++; below < 500 && seen(p) {
				t.Errorf("uid 1000 sees %s", p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if below < 10 {
		t.Errorf("only %d files were looked for", below)
	}
	if seen(h.must("volume", "inspect", "-f", "{{.Mountpoint}}", "data") + "/suid") {
		t.Error("a set-uid file in a volume is seen")
	}
}
