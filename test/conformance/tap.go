package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// verdict is how a test ended.
type verdict string

const (
	passed  verdict = "passed"
	skipped verdict = "skipped"
	failed  verdict = "failed"
)

// result is one test of the suite.
type result struct {
	name    string
	verdict verdict
	reason  string // of a skip
	output  string
}

// parseTAP reads what bats prints: a line for each test, and after it, behind
// "#", what the test has printed. It calls over when the last one has ended.
func parseTAP(in *bufio.Scanner, over func()) []result {
	in.Buffer(nil, 1<<22)
	var all []result
	for planned := 0; in.Scan(); {
		line := in.Text()
		if n, ok := strings.CutPrefix(line, "1.."); ok && len(all) == 0 {
			planned, _ = strconv.Atoi(n)
			continue
		}
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "not ok ") {
			if planned--; planned == 0 {
				over()
			}
		}
		if rest, ok := strings.CutPrefix(line, "not ok "); ok {
			all = append(all, result{verdict: failed, name: testName(rest)})
			continue
		}
		if rest, ok := strings.CutPrefix(line, "ok "); ok {
			r := result{verdict: passed}
			var isSkip bool
			if rest, r.reason, isSkip = strings.Cut(rest, " # skip"); isSkip {
				r.verdict = skipped
				r.reason = strings.TrimSpace(r.reason)
			}
			r.name = testName(rest)
			all = append(all, r)
			continue
		}
		if n := len(all); n > 0 {
			all[n-1].output += line + "\n"
		} else {
			// Before the first test: the file itself is in trouble.
			all = append(all, result{verdict: failed, name: "(file)", output: line + "\n"})
		}
	}
	return all
}

// testName drops the number before a test's name.
func testName(s string) string {
	_, name, _ := strings.Cut(s, " ")
	return strings.TrimSpace(name)
}

// expectation is one test that fails for a reason that is known.
type expectation struct {
	file, test, reason string
	// maybe is set where it is for the machine that it fails: on another one
	// it may pass.
	maybe bool
}

// readExpected reads the list of expected failures. Its lines are
//
//	v1|v2|any[?] FILE: TEST
//	    the reason, on lines that begin with white space
//
// in the order of the suite; "?" marks what fails for the machine, and "#"
// begins a comment.
func readExpected(path string, v2 bool) ([]expectation, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseExpected(string(b), v2)
}

func parseExpected(text string, v2 bool) ([]expectation, error) {
	var all []expectation
	wanted := false
	number := 0
	for line := range strings.Lines(text) {
		number++
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
			continue
		case line[0] == ' ' || line[0] == '\t':
			if n := len(all); wanted && n > 0 {
				all[n-1].reason = strings.TrimSpace(all[n-1].reason + " " + trimmed)
			}
			continue
		}
		where, rest, _ := strings.Cut(trimmed, " ")
		file, test, ok := strings.Cut(rest, ": ")
		where, maybe := strings.CutSuffix(where, "?")
		if where != "v1" && where != "v2" && where != "any" || !ok {
			return nil, fmt.Errorf("expected failures, line %d: %q is not like \"v1 FILE: TEST\"", number, trimmed)
		}
		if wanted = where == "any" || (where == "v2") == v2; wanted {
			all = append(all, expectation{file: file, test: test, maybe: maybe})
		}
	}
	for _, e := range all {
		if e.reason == "" {
			return nil, fmt.Errorf("expected failures: %s: %s has no reason", e.file, e.test)
		}
	}
	return all, nil
}
