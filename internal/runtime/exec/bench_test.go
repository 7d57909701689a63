package exec_test

import (
	"slices"
	"testing"
	"time"

	"lade/internal/runtime/exec"
	"lade/internal/runtime/program"
)

// BenchmarkStart starts and reaps /bin/true with a program of many steps: what
// the way into a child costs, without any namespace.
func BenchmarkStart(b *testing.B) {
	steps := []program.Step{executing(), cloexec()}
	for range 300 {
		steps = append(steps, program.Step{Call: "umask", Args: []program.Arg{program.Octal(0o022)}})
	}
	p := &program.Program{Name: "bench", Clone: clone(0), Child: append(steps, execve("/bin/true"))}
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		c, err := exec.Start(p, exec.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Executed(); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Wait(); err != nil {
			b.Fatal(err)
		}
		c.Close()
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[0].Microseconds()), "min-µs")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
}
