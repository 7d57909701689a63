package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// peer is a program that is not Lade's, with its own storage.
type peer struct {
	t    *testing.T
	args []string
	env  []string
}

// must runs the peer and returns the last line that it prints.
func (p peer) must(args ...string) string {
	p.t.Helper()
	all := append(append([]string{}, p.args...), args...)
	c := exec.CommandContext(p.t.Context(), all[0], all[1:]...)
	c.Env = append(os.Environ(), p.env...)
	out, err := c.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(all, " "), err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// storage returns podman or buildah with storage in dir.
func storage(t *testing.T, program, dir string) peer {
	t.Helper()
	p := peer{t: t, args: []string{program, "--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}}
	if program == "podman" {
		p.args = append(p.args, "--tmpdir", dir+"/tmp", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none")
	}
	return p
}

// TestExchange: what Lade pushes and saves, Podman, Buildah, umoci and skopeo
// pull, load and run, with the digests that Lade says; and the other way round.
func TestExchange(t *testing.T) {
	h := newHost(t)
	r := newRegistry(t)
	dir := t.TempDir()
	podman, skopeo := storage(t, "podman", dir), peer{t: t, args: []string{"skopeo", "--insecure-policy"}}
	t.Cleanup(func() {
		podman := podman
		podman.t = t
		_ = exec.Command("podman", append(podman.args[1:], "rm", "--all", "--force", "--time", "0")...).Run()
		_ = exec.Command("podman", append(podman.args[1:], "rmi", "--all", "--force")...).Run()
	})
	run := func(image, text string) {
		t.Helper()
		if got := podman.must("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:2048", "--ulimit", "nproc=4096:8192", image, "echo", text); got != text {
			t.Errorf("podman run %s: %q", image, got)
		}
	}
	name := r.addr + "/mine/tools:1"
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	h.must("tag", "lade/toolbox", name)
	h.must("push", name)
	digest := digestOf(h, name)

	// Out by a registry.
	if got := skopeo.must("inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+name); got != digest {
		t.Errorf("skopeo finds %s, Lade pushed %s", got, digest)
	}
	podman.must("pull", "--tls-verify=false", name)
	if got := podman.must("image", "inspect", "--format", "{{.Digest}}", name); got != digest {
		t.Errorf("podman pulled %s, Lade pushed %s", got, digest)
	}
	run(name, "pulled")
	skopeo.must("copy", "--src-tls-verify=false", "docker://"+name, "oci:"+dir+"/layout:x")
	peer{t: t, args: []string{"umoci"}}.must("unpack", "--image", dir+"/layout:x", dir+"/bundle")
	if _, err := os.Stat(dir + "/bundle/rootfs/bin/sh"); err != nil {
		t.Error(err)
	}

	// Out by an archive.
	h.must("tag", "lade/toolbox", "docker.io/mine/saved:1")
	h.must("save", "-o", dir+"/lade.tar", "mine/saved:1")
	podman.must("load", "--input", dir+"/lade.tar")
	run("docker.io/mine/saved:1", "loaded")
	if got := skopeo.must("inspect", "--format", "{{.Digest}}", "oci-archive:"+dir+"/lade.tar"); got != digest {
		t.Errorf("the archive has %s, the registry %s", got, digest)
	}

	// In by a registry: Buildah makes an image of it.
	buildah := storage(t, "buildah", dir)
	made := r.addr + "/mine/made:1"
	c := buildah.must("from", "--pull-never", name)
	if err := os.WriteFile(dir+"/added", []byte("by buildah"), 0o644); err != nil {
		t.Fatal(err)
	}
	buildah.must("copy", c, dir+"/added", "/added")
	for _, format := range []string{"oci", "docker"} {
		buildah.must("commit", "--format", format, c, made)
		buildah.must("push", "--tls-verify=false", made)
		want := skopeo.must("inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+made)
		h.must("pull", made)
		if got := h.must("run", "--rm", "--network", "none", made, "cat", "/added"); got != "by buildah" || digestOf(h, made) != want {
			t.Errorf("%s: %q with digest %s, want %s", format, got, digestOf(h, made), want)
		}
		// In by an archive.
		archive := filepath.Join(dir, format+".tar")
		podman.must("save", "--format", format+"-archive", "--output", archive, made)
		h.must("rmi", "-f", made)
		h.must("load", "-i", archive)
		if got := h.must("run", "--rm", "--network", "none", made, "cat", "/added"); got != "by buildah" {
			t.Errorf("%s: loaded, it says %q", format, got)
		}
		h.must("rmi", "-f", made)
	}
	buildah.must("rm", c)
}

// digestOf returns the digest by which the registry knows an image.
func digestOf(h *host, name string) string {
	h.t.Helper()
	var list []struct{ RepoDigests []string }
	if err := json.Unmarshal([]byte(h.must("inspect", name)), &list); err != nil || len(list) != 1 {
		h.t.Fatalf("inspect %s: %v", name, err)
	}
	repository := name[:strings.LastIndexByte(name, ':')]
	for _, d := range list[0].RepoDigests {
		if digest, ok := strings.CutPrefix(d, repository+"@"); ok {
			return digest
		}
	}
	h.t.Fatalf("%s has no digest: %q", name, list[0].RepoDigests)
	return ""
}

// TestDockerMovesImages: Docker's own command line pushes, saves, imports and
// logs in through Lade's socket.
func TestDockerMovesImages(t *testing.T) {
	h := newHost(t)
	r := newRegistry(t)
	dir := t.TempDir()
	docker := peer{t: t, args: []string{"docker", "--host", "unix://" + h.dir + "/s/lade.sock"}, env: []string{"DOCKER_CONFIG=" + dir}}
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	name := r.addr + "/docker/tools:1"
	docker.must("tag", "lade/toolbox", name)
	if last := docker.must("push", name); !strings.HasPrefix(last, "1: digest: sha256:") {
		t.Errorf("push ends with %q", last)
	}
	digest := digestOf(h, name)
	docker.must("push", "--platform", "linux/amd64", name)
	docker.must("save", "--output", dir+"/a.tar", name)
	docker.must("rmi", "--force", name)
	if last := docker.must("load", "--input", dir+"/a.tar"); last != "Loaded image: "+name {
		t.Errorf("load ends with %q", last)
	}
	docker.must("rmi", "--force", name)
	docker.must("pull", name)
	if got := digestOf(h, name); got != digest {
		t.Errorf("pulled %s, pushed %s", got, digest)
	}
	if err := os.Mkdir(dir+"/empty", 0o700); err != nil {
		t.Fatal(err)
	}
	peer{t: t, args: []string{"tar"}}.must("-C", dir+"/empty", "-cf", dir+"/root.tar", ".")
	if id := docker.must("import", "--change", "CMD x", dir+"/root.tar", "docker/imported:1"); !strings.HasPrefix(id, "sha256:") {
		t.Errorf("import prints %q", id)
	}
	if last := docker.must("login", "--username", "a", "--password", "b", r.addr); !strings.Contains(last, "Login Succeeded") {
		t.Errorf("login ends with %q", last)
	}
}
