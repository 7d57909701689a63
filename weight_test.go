package layers

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// weight is what a program that is started all the time may cost.
type weight struct {
	program string
	modules []string // besides this one and the standard library
	never   []string // packages, or folders of them with a trailing slash
	size    int64    // bytes of the stripped program
}

// TestWeight bounds what the hot programs link. Each package costs time at
// every start (its init, and pages to load) and memory in every process: lade
// runs for each command, lade-runtime for each container, and a lade-shim lives
// beside each. A limit that must grow is changed here, with a measurement.
func TestWeight(t *testing.T) {
	for _, w := range []weight{
		{
			program: "lade",
			modules: []string{
				"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term", "golang.org/x/sys",
				"github.com/moby/moby/api", "github.com/moby/docker-image-spec", "github.com/docker/go-units",
				"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec",
			},
			// distribution/reference compiles 0.7 ms of regular expressions.
			never: []string{"github.com/distribution/reference", "lade/internal/reference", "lade/internal/engine/", "html/template", "testing", "encoding/gob", "log/slog"},
			size:  10 << 20,
		},
		{
			program: "lade-shim",
			modules: []string{"golang.org/x/sys", "github.com/opencontainers/go-digest"},
			never:   []string{"net", "net/http", "crypto/tls", "text/template", "html/template", "testing", "log/slog"},
			size:    4 << 20,
		},
		{
			program: "lade-runtime",
			modules: []string{"golang.org/x/sys", "github.com/opencontainers/runtime-spec", "github.com/cilium/ebpf"},
			never:   []string{"net", "net/http", "crypto/tls", "text/template", "html/template", "testing", "log/slog"},
			size:    6 << 20,
		},
	} {
		t.Run(w.program, func(t *testing.T) {
			if files, err := filepath.Glob("cmd/" + w.program + "/*.go"); err != nil || len(files) == 0 {
				t.Skipf("cmd/%s is not there yet", w.program)
			}
			w.checkImports(t)
			w.checkSize(t)
		})
	}
}

func (w weight) checkImports(t *testing.T) {
	t.Helper()
	const line = "{{if not .Standard}}{{.Module.Path}}{{end}} {{.ImportPath}}"
	out := run(t, "go", "list", "-deps", "-f", line, "./cmd/"+w.program)
	for l := range strings.Lines(out) {
		mod, pkg, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		if mod != "" && mod != module && !within(pkg, module) && !withinAny(mod, w.modules) {
			t.Errorf("%s links %s of module %s, which is not among those it may use", w.program, pkg, mod)
		}
		for _, n := range w.never {
			if pkg == strings.TrimSuffix(n, "/") || strings.HasSuffix(n, "/") && strings.HasPrefix(pkg, n) {
				t.Errorf("%s links %s, which is too heavy for it", w.program, pkg)
			}
		}
	}
}

func (w weight) checkSize(t *testing.T) {
	t.Helper()
	file := path.Join(t.TempDir(), w.program)
	run(t, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./cmd/"+w.program)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > w.size {
		t.Errorf("%s has %d bytes, more than %d", w.program, info.Size(), w.size)
	}
}

// run returns what a program prints; it is built as the Makefile builds.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return string(out)
}
