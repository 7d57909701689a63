package layers

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// The limits that the linter has no rule for; docs/adr/0009 says why they sit
// on the tail. Generated files and wire types do not count.
const (
	maxPackageLines = 3000
	maxStructFields = 20
	maxImportChain  = 12
)

// TestSizes checks the size of every package and struct.
func TestSizes(t *testing.T) {
	lines := map[string]int{}
	walkGo(t, func(pkg, file string) {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(f) {
			return
		}
		lines[pkg] += bytes.Count(src, []byte("\n"))
		if within(pkg, "api") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok && s.Fields.NumFields() > maxStructFields {
				t.Errorf("%s: struct %s has %d fields; at most %d: split it by noun", fset.Position(spec.Pos()), spec.Name, s.Fields.NumFields(), maxStructFields)
			}
			return true
		})
	})
	for pkg, n := range lines {
		if n > maxPackageLines {
			t.Errorf("%s has %d lines; at most %d: split it by noun", pkg, n, maxPackageLines)
		}
	}
}

// TestNoSleep: a test that sleeps is slow on every machine, and fails on a
// slower one. It waits for the event; kerneltest.Eventually is for what makes
// none. A bare receive from time.After is a sleep by another name.
func TestNoSleep(t *testing.T) {
	walkFiles(t, func(_, file string) {
		if !strings.HasSuffix(file, "_test.go") {
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		chosen := map[ast.Node]bool{} // by a select, among other events
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CommClause:
				if s, ok := n.Comm.(*ast.ExprStmt); ok {
					chosen[s.X] = true
				}
			case *ast.CallExpr:
				if isTime(n.Fun, "Sleep") {
					t.Errorf("%s: a test sleeps; wait for the event", fset.Position(n.Pos()))
				}
			case *ast.UnaryExpr:
				if call, ok := n.X.(*ast.CallExpr); ok && !chosen[n] && n.Op == token.ARROW && isTime(call.Fun, "After") {
					t.Errorf("%s: a test sleeps; wait for the event", fset.Position(n.Pos()))
				}
			}
			return true
		})
	})
}

// isTime reports whether e is that function of package time.
func isTime(e ast.Expr, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "time"
}

// TestImportChain checks how deep packages of this module stand on each other.
func TestImportChain(t *testing.T) {
	graph := importGraph(t)
	chains := map[string][]string{}
	var longest func(pkg string) []string
	longest = func(pkg string) []string {
		if c, ok := chains[pkg]; ok {
			return c
		}
		var below []string
		for _, imp := range graph[pkg] {
			if c := longest(imp); len(c) > len(below) {
				below = c
			}
		}
		chains[pkg] = append([]string{pkg}, below...)
		return chains[pkg]
	}
	for pkg := range graph {
		if c := longest(pkg); len(c) > maxImportChain {
			t.Errorf("a chain of %d imports, at most %d: %v", len(c), maxImportChain, c)
		}
	}
}
