package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

const imageName = "localhost/bench:1"

// engine is one way to run containers from a command line.
type engine struct {
	name string
	shim string   // the program that stands beside each container
	args []string // program and global flags
	run  []string // flags of run that this machine asks for
	rm   []string // flags of rm -f, for it not to wait for a graceful end
	env  []string
	stop func()
}

// withEngines starts the engines that are installed, has them load the image,
// and ends them after f.
func (b *bench) withEngines(f func(ready []engine) error) error {
	archive := b.dir + "/image.tar"
	if err := dockerArchive(b.dir+"/image-root", archive); err != nil {
		return err
	}
	var ready []engine
	for _, start := range []func() (engine, error){b.lade, b.podman, b.docker} {
		e, err := start()
		if e.stop != nil {
			defer e.stop()
		}
		if err == nil {
			err = load(e, archive)
		}
		switch {
		case err != nil && e.name == "lade":
			return err
		case err != nil:
			b.report.Skipped[e.name] = err.Error()
		default:
			ready = append(ready, e)
		}
	}
	return f(ready)
}

// engines measures `run --rm` of the same image.
func (b *bench) engines(ready []engine) error {
	for _, network := range []string{"none", "bridge"} {
		var contenders []contender
		for _, e := range ready {
			args := append(append(append([]string{}, e.args...), "run", "--rm", "--network", network), e.run...)
			args = append(args, imageName, "/bin/true")
			contenders = append(contenders, contender{name: e.name, env: e.env, args: func(int) []string { return args }})
		}
		goals := map[string]float64{"podman": 0.25}
		if network == "bridge" {
			goals = map[string]float64{"docker": 0.1}
		}
		times, _, err := b.race("engine: run --rm --network "+network, "lade", contenders, goals)
		if err != nil {
			return err
		}
		b.add(times)
	}
	return nil
}

func load(e engine, archive string) error {
	c := exec.Command(e.args[0], append(append([]string{}, e.args[1:]...), "load", "-i", archive)...)
	c.Env = append(os.Environ(), e.env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s load: %w: %s", e.name, err, bytes.TrimSpace(out))
	}
	return nil
}

func (b *bench) lade() (engine, error) {
	dir := b.dir + "/lade"
	e := engine{name: "lade", shim: "lade-shim", args: []string{b.bin + "/lade"}, env: []string{"LADE_DATA_ROOT=" + dir + "/d", "LADE_STATE_DIR=" + dir + "/s", "LADE_HOST=unix://" + dir + "/s/lade.sock"}}
	r, w, err := os.Pipe()
	if err != nil {
		return e, err
	}
	defer r.Close()
	c := exec.Command(b.bin + "/laded")
	c.Env = append(append(os.Environ(), e.env...), "LADE_READY_FD=3")
	c.ExtraFiles = []*os.File{w}
	err = c.Start()
	_ = w.Close()
	if err != nil {
		return e, err
	}
	e.stop = func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	}
	said, err := io.ReadAll(r)
	if err == nil && strings.TrimSpace(string(said)) != "ok" {
		err = fmt.Errorf("laded says %q", said)
	}
	b.report.Versions["lade"] = firstLine(b.bin+"/lade", "--version")
	return e, err
}

func (b *bench) podman() (engine, error) {
	e := engine{name: "podman", shim: "conmon", run: []string{"--ulimit", "nofile=1024:2048", "--ulimit", "nproc=4096:8192"}, rm: []string{"--time", "0"}}
	path := b.find("podman")
	if path == "" {
		return e, errors.New("not installed")
	}
	dir := b.dir + "/podman"
	e.args = []string{path, "--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	e.stop = func() {
		c := exec.Command(path, append(append([]string{}, e.args[1:]...), "rmi", "--all", "--force")...)
		_ = c.Run()
	}
	return e, nil
}

func (b *bench) docker() (engine, error) {
	e := engine{name: "docker", shim: "containerd-shim-runc-v2"}
	path, daemon := b.find("docker"), b.find("dockerd")
	if path == "" || daemon == "" {
		return e, errors.New("not installed")
	}
	dir := b.dir + "/docker"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return e, err
	}
	socket := "unix://" + dir + "/docker.sock"
	e.args, e.env = []string{path}, []string{"DOCKER_HOST=" + socket}
	c := exec.Command(daemon, "--data-root", dir+"/d", "--exec-root", dir+"/x", "-H", socket, "-p", dir+"/pid", "--log-level", "error")
	if err := c.Start(); err != nil {
		return e, err
	}
	e.stop = func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	}
	// dockerd tells nobody but systemd when it is ready.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 300 {
		ask := exec.Command(path, "version")
		ask.Env = append(os.Environ(), e.env...)
		if ask.Run() == nil {
			return e, nil
		}
		<-tick.C
	}
	return e, errors.New("dockerd did not answer within 30 s")
}

// dockerArchive writes an image with busybox in the form that every engine
// loads.
func dockerArchive(root, path string) error {
	if err := busybox(root); err != nil {
		return err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.AddFS(os.DirFS(root)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	diffID := sha256.Sum256(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Cmd": []string{"/bin/sh"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(diffID[:])}},
	})
	if err != nil {
		return err
	}
	id := sha256.Sum256(config)
	name := hex.EncodeToString(id[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{imageName}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	var all bytes.Buffer
	w = tar.NewWriter(&all)
	for _, f := range []struct {
		name string
		data []byte
	}{{name, config}, {"layer.tar", layer.Bytes()}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, all.Bytes(), 0o600)
}
