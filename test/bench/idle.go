package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// idlers is how many containers stand idle at a time.
const idlers = 30

// bar stands among the measured as what the memory of a shim may be.
const bar = "1.5 MiB"

// idle starts containers that do nothing, and measures how long each takes to
// start and to remove, and the memory of what stands beside it.
func (b *bench) idle(ready []engine) error {
	start, remove, memory := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for _, e := range ready {
		if err := b.idleOf(e, start, remove, memory); err != nil {
			if e.name == "lade" {
				return err
			}
			b.report.Skipped[e.name+": idle"] = err.Error()
		}
	}
	if len(memory["lade"]) == 0 {
		return fmt.Errorf("no process of lade-shim was found")
	}
	memory[bar] = []float64{1536}
	b.add(
		figure(fmt.Sprintf("engine: run -d, each of %d", idlers), "ms", "lade", start, map[string]float64{"podman": 0.125}),
		figure(fmt.Sprintf("engine: rm -f, mean of %d", idlers), "ms", "lade", remove, nil),
		figure(fmt.Sprintf("shim: proportional memory, %d containers idle", idlers), "KiB", "lade", memory, map[string]float64{bar: 1}),
	)
	return nil
}

func (b *bench) idleOf(e engine, start, remove, memory map[string][]float64) (err error) {
	before := processes(e.shim)
	var ids []string
	defer func() {
		at := time.Now()
		_, rmErr := e.do(slices.Concat([]string{"rm", "-f"}, e.rm, ids)...)
		if err == nil {
			err = rmErr
		}
		remove[e.name] = append(remove[e.name], milliseconds(at)/float64(len(ids)))
	}()
	for range idlers {
		at := time.Now()
		id, err := e.do(slices.Concat([]string{"run", "-d", "--network", "none"}, e.run, []string{imageName, "/bin/sleep", "1000"})...)
		if err != nil {
			return err
		}
		start[e.name] = append(start[e.name], milliseconds(at))
		ids = append(ids, id)
	}
	for _, pid := range processes(e.shim) {
		if kib, ok := proportional(pid); ok && !slices.Contains(before, pid) {
			memory[e.name] = append(memory[e.name], kib)
		}
	}
	return nil
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Nanoseconds()) / 1e6 }

// do runs one command of an engine and returns what it prints.
func (e engine) do(args ...string) (string, error) {
	c := exec.Command(e.args[0], slices.Concat(e.args[1:], args)...)
	c.Env = append(os.Environ(), e.env...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", e.name, strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// processes returns the processes of a program.
func processes(program string) []string {
	var pids []string
	all, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range all {
		if target, err := os.Readlink(exe); err == nil && filepath.Base(target) == program {
			pids = append(pids, filepath.Base(filepath.Dir(exe)))
		}
	}
	return pids
}

// proportional returns the Pss of a process: its memory, with what it shares
// divided among those that share it.
func proportional(pid string) (kib float64, ok bool) {
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			kib, err = strconv.ParseFloat(f[1], 64)
			return kib, err == nil
		}
	}
	return 0, false
}
