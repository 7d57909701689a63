package shim_test

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"lade/internal/shim"
	"lade/test/kerneltest"
)

// pss returns a process's proportional set size in KiB.
func pss(tb testing.TB, pid int) int {
	tb.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 1 && w[0] == "Pss:" {
			n, _ := strconv.Atoi(w[1])
			return n
		}
	}
	tb.Fatal("no Pss")
	return 0
}

// Thirty idle shims take less than 1.5 MB each: the real program, after a
// start, some output, an attachment and an exec.
func TestMemory(t *testing.T) {
	const shims, most = 30, 1500
	r := fakeRig(t)
	r.shim = build(t, "lade-shim")
	var pids []int
	for range shims {
		cfg := r.config("seq 0 200; read x")
		cfg.Stdin = true
		s, a := client(t, shim.Attach{Stdin: true, Stdout: true})
		c := run(t, r, cfg, a)
		s.until(t, "200\n")
		_ = s.Close()
		if _, err := c.Exec(t.Context(), r.exec(t, "one", false, "exit 0")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ExecWait(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, c.PID())
	}
	total := 0
	for _, pid := range pids {
		total += pss(t, pid)
	}
	t.Logf("%d KiB per shim", total/shims)
	if total/shims > most {
		t.Errorf("%d KiB per idle shim, more than %d", total/shims, most)
	}
}

// BenchmarkLaunch is a shim's start, until it speaks.
func BenchmarkLaunch(b *testing.B) {
	r := &rig{shim: build(b, "lade-shim"), runtime: play(b, "fake-runtime"), root: b.TempDir()}
	least := time.Hour
	for b.Loop() {
		b.StopTimer()
		cfg := shim.Config{ID: "x", Bundle: b.TempDir(), Runtime: r.runtime, RuntimeRoot: r.root}
		cfg.Log.Dir = b.TempDir()
		b.StartTimer()
		begin := time.Now()
		c, err := shim.Launch(b.Context(), r.shim, cfg, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		least = min(least, time.Since(begin))
		_ = c.Close()
		b.StartTimer()
	}
	// On a machine that does other things too, the mean says little.
	b.ReportMetric(float64(least.Microseconds()), "least-µs")
}

// BenchmarkRun is a container's whole life with Lade's own runtime: launch,
// run, output to a client, exit record, removal.
func BenchmarkRun(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	r := &rig{t: b, shim: build(b, "lade-shim"), runtime: build(b, "lade-runtime"), root: b.TempDir(), rootfs: kerneltest.Busybox(b)}
	least, exit := time.Hour, time.Hour
	for b.Loop() {
		b.StopTimer()
		cfg := r.config("")
		r.writeArgs(cfg, "true")
		s, a := client(b, shim.Attach{Stdout: true})
		b.StartTimer()
		begin := time.Now()
		c, err := shim.Launch(b.Context(), r.shim, cfg, []shim.Attach{a})
		if err == nil {
			_, err = c.Create(b.Context(), nil)
		}
		if err != nil {
			b.Fatal(err)
		}
		<-c.Exited()
		exit = min(exit, time.Since(begin))
		<-c.Done()
		least = min(least, time.Since(begin))
		b.StopTimer()
		_ = c.Close()
		_, _ = s.Close(), a.File.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(least.Microseconds()), "least-µs")
	b.ReportMetric(float64(exit.Microseconds()), "least-exit-µs")
}
