// Command conformance runs runc's own integration suite against an OCI runtime
// and compares what fails with a list of what is expected to fail.
//
// The suite is a checkout of runc's repository, kept outside this project.
// test/conformance/run builds what it needs and starts this program:
//
//	LADE_RUNC_SUITE=/path/to/runc make conformance
//	LADE_RUNC_SUITE=/path/to/runc test/conformance/run -v2 update events
//	LADE_RUNC_SUITE=/path/to/runc test/conformance/run -runtime /usr/sbin/runc -expected ""
//
// Arguments are files of the suite, without ".bats"; none means all. Each file
// runs with a controlling terminal, in a mount namespace of its own, and below
// a process that reaps orphans at once. With -v2 the unified hierarchy of a
// hybrid machine stands at /sys/fs/cgroup, which is the v2 path of a runtime
// as far as that machine has controllers for it.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// driver is one run of the suite.
type driver struct {
	suite, runtime, filter, tmp string
	v2, verbose                 bool
	expected                    []expectation
	out                         io.Writer
	counts                      map[verdict]int
	skips                       map[string]int
}

func main() {
	d := driver{out: os.Stdout, counts: map[verdict]int{}, skips: map[string]int{}}
	flag.StringVar(&d.suite, "suite", "", "checkout of runc's repository")
	flag.StringVar(&d.runtime, "runtime", "bin/lade-runtime", "the `program` to test")
	flag.StringVar(&d.filter, "filter", "", "only tests whose name matches this `expression`")
	flag.BoolVar(&d.v2, "v2", false, "put the v2 hierarchy of a hybrid machine at /sys/fs/cgroup")
	flag.BoolVar(&d.verbose, "v", false, "print the output of expected failures, too")
	list := flag.String("expected", "", "`file` of expected failures")
	flag.Parse()
	bad, err := d.main(*list, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || bad > 0 {
		os.Exit(1)
	}
}

// main runs files, or all of them, and returns how many tests did not end as
// they should have.
func (d *driver) main(list string, files []string) (bad int, err error) {
	if d.runtime, err = filepath.Abs(d.runtime); err != nil {
		return 0, err
	}
	if _, err := os.Stat(d.runtime); err != nil {
		return 0, err
	}
	if d.expected, err = readExpected(list, d.v2); err != nil {
		return 0, err
	}
	unlock, err := lock(d.suite)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if d.tmp, err = os.MkdirTemp("", "conformance"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(d.tmp)
	// Users of user namespaces must get through.
	if err := os.Chmod(d.tmp, 0o711); err != nil {
		return 0, err
	}
	if err := becomeSubreaper(); err != nil {
		return 0, err
	}
	if len(files) == 0 {
		paths, err := filepath.Glob(filepath.Join(d.suite, "tests/integration/*.bats"))
		if err != nil || len(paths) == 0 {
			return 0, fmt.Errorf("%s holds no integration suite of runc", d.suite)
		}
		for _, p := range paths {
			files = append(files, strings.TrimSuffix(filepath.Base(p), ".bats"))
		}
	}
	for _, f := range files {
		n, err := d.file(f)
		if err != nil {
			return bad, err
		}
		bad += n
	}
	d.summary(bad)
	return bad, nil
}

// lock makes this the only run: the suite's names for cgroups and links are
// the same in every one.
func lock(suite string) (unlock func(), err error) {
	f, err := os.Open(suite)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another run uses %s: %w", suite, err)
	}
	return func() { _ = f.Close() }, nil
}

// file runs one file of the suite.
func (d *driver) file(name string) (bad int, err error) {
	b, err := d.bats(filepath.Join(d.suite, "tests/integration", name+".bats"))
	if err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	pid, hangUp, err := b.start(w)
	_ = w.Close()
	if err != nil {
		return 0, fmt.Errorf("start bats: %w", err)
	}
	defer hangUp()
	results := make(chan []result)
	over, stop := make(chan struct{}), make(chan struct{})
	go func() { results <- parseTAP(bufio.NewScanner(r), func() { close(over) }) }()
	go endLost(over, stop)
	err = reap(pid)
	close(stop)
	if err != nil {
		return 0, err
	}
	// A process that was left behind may hold the pipe: nothing of it counts.
	_ = r.SetReadDeadline(soon())
	all := <-results
	_ = r.Close()
	counts := map[verdict]int{}
	for _, t := range all {
		counts[t.verdict]++
		d.counts[t.verdict]++
		if t.verdict == skipped {
			d.skips[t.reason]++
		}
		if !d.judge(name, t) {
			bad++
		}
	}
	fmt.Fprintf(d.out, "%-24s %3d passed %3d skipped %3d failed\n", name, counts[passed], counts[skipped], counts[failed])
	return bad, nil
}

// judge compares a result with what is expected, and tells where they differ.
func (d *driver) judge(file string, t result) bool {
	i := slices.IndexFunc(d.expected, func(e expectation) bool { return e.file == file && e.test == t.name })
	switch {
	case t.verdict == failed && i < 0:
		fmt.Fprintf(d.out, "FAIL %s: %s\n%s", file, t.name, t.output)
		return false
	case t.verdict == failed:
		fmt.Fprintf(d.out, "expected failure of %s: %s: %s\n", file, t.name, d.expected[i].reason)
		if d.verbose {
			fmt.Fprint(d.out, t.output)
		}
	case t.verdict == passed && i >= 0 && !d.expected[i].maybe:
		fmt.Fprintf(d.out, "FIXED %s: %s: take it off the list\n", file, t.name)
		return false
	}
	return true
}

func (d *driver) summary(bad int) {
	fmt.Fprintf(d.out, "\n%s: %d tests: %d passed, %d skipped, %d failed; %d not as expected\n", filepath.Base(d.runtime),
		d.counts[passed]+d.counts[skipped]+d.counts[failed], d.counts[passed], d.counts[skipped], d.counts[failed], bad)
	reasons := make([]string, 0, len(d.skips))
	for r := range d.skips {
		reasons = append(reasons, r)
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if d.skips[a] != d.skips[b] {
			return d.skips[b] - d.skips[a]
		}
		return strings.Compare(a, b)
	})
	for _, r := range reasons {
		fmt.Fprintf(d.out, "  %3d skipped: %s\n", d.skips[r], r)
	}
}
