package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// proofs matches `internal/layer.TestHostile` in SPECIFICATION.md; a benchmark
// or a fuzz target counts as well.
var proofs = regexp.MustCompile("`([a-z0-9/._-]+)\\.((?:Test|Benchmark|Fuzz)[A-Za-z0-9_]+)`")

// TestSpecification checks that every test that SPECIFICATION.md names as a
// proof exists.
func TestSpecification(t *testing.T) {
	text, err := os.ReadFile("SPECIFICATION.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range proofs.FindAllSubmatch(text, -1) {
		pkg, name := string(m[1]), string(m[2])
		if !slices.Contains(testsOf(t, pkg), name) {
			t.Errorf("SPECIFICATION.md names %s.%s, which does not exist", pkg, name)
		}
		found[pkg+"."+name] = true
	}
	if len(found) < 20 {
		t.Errorf("SPECIFICATION.md names %d tests; it should bind every promise", len(found))
	}
}

// testsOf returns the names of the tests, benchmarks and fuzz targets in a
// package's folder; "." is the root.
func testsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
