package main

import (
	"bufio"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTAP(t *testing.T) {
	const tap = `1..4
ok 1 a test 
ok 2 another # skip test requires systemd
not ok 3 it breaks
# (in test file x.bats, line 3)
ok 4 last # skip
`
	want := []result{
		{name: "a test", verdict: passed},
		{name: "another", verdict: skipped, reason: "test requires systemd"},
		{name: "it breaks", verdict: failed, output: "# (in test file x.bats, line 3)\n"},
		{name: "last", verdict: skipped},
	}
	over := 0
	got := parseTAP(bufio.NewScanner(strings.NewReader(tap)), func() { over++ })
	if d := cmp.Diff(want, got, cmp.AllowUnexported(result{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if over != 1 {
		t.Errorf("it was over %d times", over)
	}
	if got := parseTAP(bufio.NewScanner(strings.NewReader("syntax error\n")), nil); len(got) != 1 || got[0].verdict != failed {
		t.Errorf("a broken file: %v", got)
	}
}

func TestParseExpected(t *testing.T) {
	const list = "# why\nv1 a: one: two\n    because\n    of this\nv2 a: three\n\tno\nany? b: four\n\tyes\n"
	got, err := parseExpected(list, false)
	want := []expectation{{file: "a", test: "one: two", reason: "because of this"}, {file: "b", test: "four", reason: "yes", maybe: true}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(expectation{})); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, bad := range []string{"v3 a: b\n\tx\n", "any a\n\tx\n", "any a: b\n"} {
		if _, err := parseExpected(bad, false); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestList asserts that the list of expected failures can be read.
func TestList(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		if _, err := readExpected("expected", v2); err != nil {
			t.Error(err)
		}
	}
}
