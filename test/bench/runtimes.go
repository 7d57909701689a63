package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// runtimes measures OCI runtimes: run and exec of /bin/true from a bundle with
// runc's default configuration.
func (b *bench) runtimes() error {
	bundle, err := b.bundle("/bin/true")
	if err != nil {
		return err
	}
	idle, err := b.bundle("/bin/sleep", "1000")
	if err != nil {
		return err
	}
	b.report.Versions["lade-runtime"] = firstLine(b.bin+"/lade-runtime", "--version")
	programs := map[string]string{"lade-runtime": b.bin + "/lade-runtime"}
	for _, peer := range []string{"crun", "runc"} {
		if path := b.find(peer); path != "" {
			programs[peer] = path
		}
	}
	runs := []contender{{name: "limit", args: func(int) []string {
		return []string{b.tools + "/limit", bundle + "/rootfs", "/bin/true"}
	}}}
	var execs []contender
	for _, name := range []string{"lade-runtime", "crun", "runc"} {
		path, ok := programs[name]
		if !ok {
			continue
		}
		root := filepath.Join(b.dir, name)
		runs = append(runs, contender{name: name, args: func(round int) []string {
			return []string{path, "--root", root, "run", "--bundle", bundle, fmt.Sprintf("bench-%s-%d", name, round)}
		}})
		id := "bench-idle-" + name
		// No pipes: the container would hold them for as long as it lives.
		if err := exec.Command(path, "--root", root, "run", "--detach", "--bundle", idle, id).Run(); err != nil {
			b.report.Skipped[name+": exec"] = err.Error()
			continue
		}
		defer func() { _ = exec.Command(path, "--root", root, "delete", "--force", id).Run() }()
		execs = append(execs, contender{name: name, args: func(int) []string {
			return []string{path, "--root", root, "exec", id, "/bin/true"}
		}})
	}
	times, memory, err := b.race("runtime: run /bin/true", "lade-runtime", runs, map[string]float64{"limit": 2.5, "crun": 0.8})
	if err != nil {
		return err
	}
	b.add(times, memory)
	times, memory, err = b.race("runtime: exec /bin/true", "lade-runtime", execs, map[string]float64{"crun": 0.6})
	if err != nil {
		return err
	}
	b.add(times, memory)
	return nil
}

// bundle makes a bundle with busybox as its root file system and runc's
// default configuration, as the first runtime that can write one has it.
func (b *bench) bundle(args ...string) (string, error) {
	dir, err := os.MkdirTemp(b.dir, "bundle")
	if err != nil {
		return "", err
	}
	if err := busybox(dir + "/rootfs"); err != nil {
		return "", err
	}
	spec := exec.Command(b.bin+"/lade-runtime", "spec", "--bundle", dir)
	if runc, err := exec.LookPath("runc"); err == nil {
		spec = exec.Command(runc, "spec", "--bundle", dir)
	}
	if out, err := spec.CombinedOutput(); err != nil {
		return "", fmt.Errorf("spec: %w: %s", err, out)
	}
	text, err := os.ReadFile(dir + "/config.json")
	if err != nil {
		return "", err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return "", err
	}
	// crun 1.8.1 refuses later versions of the specification.
	config["ociVersion"] = "1.0.2"
	process, ok := config["process"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("config.json of %s has no process", spec.Path)
	}
	process["terminal"] = false
	process["args"] = args
	delete(process, "rlimits")
	if text, err = json.Marshal(config); err != nil {
		return "", err
	}
	return dir, os.WriteFile(dir+"/config.json", text, 0o600)
}

// busybox makes a root file system of one static program.
func busybox(root string) error {
	for _, d := range []string{"bin", "dev", "proc", "sys", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("%w (the package busybox-static has it)", err)
	}
	if err := os.WriteFile(root+"/bin/busybox", program, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"true", "sh", "sleep", "echo", "cat"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// commandLines measures the start of the command line.
func (b *bench) commandLines() error {
	contenders := []contender{
		{name: "lade", args: func(int) []string { return []string{b.bin + "/lade", "version", "--client"} }},
		{name: "busybox true", args: func(int) []string { return []string{"/bin/busybox", "true"} }},
	}
	if docker := b.find("docker"); docker != "" {
		contenders = append(contenders, contender{name: "docker", args: func(int) []string {
			return []string{docker, "--version"}
		}})
	}
	if podman := b.find("podman"); podman != "" {
		contenders = append(contenders, contender{name: "podman", args: func(int) []string { return []string{podman, "--version"} }})
	}
	times, memory, err := b.race("command line: version of the client", "lade", contenders, nil)
	if err != nil {
		return err
	}
	b.add(times, memory)
	return nil
}
