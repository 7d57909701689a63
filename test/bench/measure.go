package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// contender is a program that takes part in a figure.
type contender struct {
	name string
	args func(round int) []string
	env  []string
	// after, where set, is run after each round, untimed.
	after func(round int) error
}

// sample runs args under clock and returns milliseconds and KiB.
func (b *bench) sample(c contender, round int) (ms, kib float64, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	args := c.args(round)
	cmd := exec.Command(b.tools+"/clock", args...)
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), c.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	_ = w.Close()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return 0, 0, err
	}
	var ns int64
	if _, err := fmt.Sscan(string(text), &ns, &kib); err != nil {
		return 0, 0, fmt.Errorf("clock printed %q: %w", text, err)
	}
	if c.after != nil {
		if err := c.after(round); err != nil {
			return 0, 0, err
		}
	}
	return float64(ns) / 1e6, kib, nil
}

// race asks every contender once a round. One that fails in the first round is
// left out, with its reason; a later failure ends the run.
func (b *bench) race(name, subject string, contenders []contender, goals map[string]float64) (times, memory Figure, err error) {
	ms, kib := map[string][]float64{}, map[string][]float64{}
	for round := range b.rounds + 2 {
		for _, c := range contenders {
			if _, out := b.report.Skipped[c.name+": "+name]; out {
				continue
			}
			t, m, err := b.sample(c, round)
			switch {
			case err != nil && round == 0 && c.name != subject:
				b.report.Skipped[c.name+": "+name] = err.Error()
			case err != nil:
				return Figure{}, Figure{}, err
			case round >= 2: // two to warm up
				ms[c.name], kib[c.name] = append(ms[c.name], t), append(kib[c.name], m)
			}
		}
	}
	return figure(name, "ms", subject, ms, goals), figure(name+", peak memory", "KiB", subject, kib, nil), nil
}

func figure(name, unit, subject string, samples map[string][]float64, goals map[string]float64) Figure {
	f := Figure{Name: name, Unit: unit, Subject: subject, Goals: goals, Median: map[string]float64{}, Min: map[string]float64{}}
	for who, s := range samples {
		slices.Sort(s)
		f.Runs = max(f.Runs, len(s))
		f.Median[who], f.Min[who] = s[len(s)/2], s[0]
	}
	return f
}

func (b *bench) add(figures ...Figure) { b.report.Figures = append(b.report.Figures, figures...) }

// print shows the report to people.
func (b *bench) print() {
	w := os.Stdout
	r := b.report
	fmt.Fprintf(w, "%s, %d CPUs, kernel %s, cgroup %s\n", r.Machine, r.CPUs, r.Kernel, r.Cgroups)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, "  %-14s %s\n", name, r.Versions[name])
	}
	for _, f := range r.Figures {
		fmt.Fprintf(w, "\n%s (%d runs)\n  %-14s %10s %10s  %s\n", f.Name, f.Runs, "", "median", "min", f.Subject+" is")
		subject := f.Median[f.Subject]
		for _, who := range slices.SortedFunc(maps.Keys(f.Median), func(x, y string) int { return compare(f.Median[x], f.Median[y]) }) {
			fmt.Fprintf(w, "  %-14s %10.2f %10.2f %s", who, f.Median[who], f.Min[who], f.Unit)
			if who != f.Subject && f.Median[who] > 0 {
				ratio := subject / f.Median[who]
				fmt.Fprintf(w, "  %.2f ×", ratio)
				if goal, ok := f.Goals[who]; ok {
					fmt.Fprintf(w, " (goal ≤ %.2f: %s)", goal, map[bool]string{true: "met", false: "NOT MET"}[ratio <= goal])
				}
			}
			fmt.Fprintln(w)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(r.Skipped)) {
		fmt.Fprintf(w, "skipped %s: %s\n", what, r.Skipped[what])
	}
}

func compare(x, y float64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
