// Command bench measures Lade next to its peers, all in one run: a round asks
// every program once, in turn, so that a machine that slows down slows all.
//
// It prints medians and ratios, with the versions of what it found, and writes
// them to a file. test/bench/run starts it in namespaces of its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// bench is one run: where things are, and what was measured.
type bench struct {
	tools, bin, dir string
	rounds          int
	report          Report
}

// Report is what a run leaves in a file.
type Report struct {
	When     time.Time         `json:"when"`
	Machine  string            `json:"machine"`
	Kernel   string            `json:"kernel"`
	CPUs     int               `json:"cpus"`
	Cgroups  string            `json:"cgroups"`
	Versions map[string]string `json:"versions"`
	Skipped  map[string]string `json:"skipped,omitempty"`
	Figures  []Figure          `json:"figures"`
}

// Figure is one quantity, measured for several programs.
type Figure struct {
	Name    string             `json:"name"`
	Unit    string             `json:"unit"`
	Runs    int                `json:"runs"`
	Median  map[string]float64 `json:"median"`
	Min     map[string]float64 `json:"min"`
	Subject string             `json:"subject"` // the program that ratios are of
	Goals   map[string]float64 `json:"goals,omitempty"`
}

func main() {
	var b bench
	out := flag.String("out", "", "write the results to this `file`")
	only := flag.String("only", "", "measure only what has this `word` in its name: runtime, engine, shim, cli")
	flag.StringVar(&b.tools, "tools", "", "`directory` of clock and limit")
	flag.StringVar(&b.bin, "bin", "bin", "`directory` of Lade's programs")
	flag.IntVar(&b.rounds, "rounds", 30, "rounds for each figure")
	flag.Parse()
	if err := b.run(*only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(only, out string) (err error) {
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	// Short: Unix sockets live below it.
	if b.dir, err = os.MkdirTemp("", "lb"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.describe()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"runtime", b.runtimes},
		{"cli", b.commandLines},
		{"engine", func() error { return b.withEngines(b.engines) }},
		{"shim", func() error { return b.withEngines(b.idle) }},
	} {
		if only != "" && only != part.name {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.print()
	if out == "" {
		return nil
	}
	text, err := json.MarshalIndent(b.report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o600)
}

func (b *bench) describe() {
	b.report = Report{When: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Versions: map[string]string{}, Skipped: map[string]string{}, Cgroups: "v2"}
	b.report.Kernel = firstLine("uname", "-r")
	b.report.Machine = cpuModel()
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		b.report.Cgroups = "v1 or hybrid"
	}
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

func firstLine(args ...string) string {
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// find returns the path of a peer and notes its version, or that it is absent.
func (b *bench) find(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		b.report.Skipped[name] = "not installed"
		return ""
	}
	b.report.Versions[name] = firstLine(path, "--version")
	return path
}
