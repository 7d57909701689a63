package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"lade/internal/engine/container/launch"
	"lade/internal/errdefs"
)

// programs are the other programs that the engine uses.
type programs struct {
	shim, init, toolbox string
	runtimes            []launch.Runtime // the default first
}

// findPrograms finds Lade's own, and the OCI runtimes that are installed.
func findPrograms(defaultRuntime string) (programs, error) {
	var p programs
	var err error
	if p.shim, err = find("lade-shim"); err != nil {
		return p, err
	}
	// Only --init and lade/toolbox need these two; what lacks says so then.
	p.init, _ = find("lade-init")
	p.toolbox, _ = find("lade-toolbox")
	if own, err := find("lade-runtime"); err == nil {
		p.runtimes = append(p.runtimes, launch.Runtime{Name: "lade", Program: own})
	} else if defaultRuntime == "" {
		return p, err
	}
	for _, name := range []string{"crun", "runc", "runsc", "youki"} {
		if path, err := exec.LookPath(name); err == nil {
			p.runtimes = append(p.runtimes, launch.Runtime{Name: name, Program: path})
		}
	}
	if defaultRuntime == "" {
		return p, nil
	}
	name, path, ok := strings.Cut(defaultRuntime, "=")
	if !ok {
		name, path = filepath.Base(defaultRuntime), defaultRuntime
		for _, r := range p.runtimes {
			if r.Name == defaultRuntime {
				path = r.Program
			}
		}
	}
	if path, err = exec.LookPath(path); err != nil {
		return p, errdefs.New(errdefs.Invalid, "runtime %s: %w", defaultRuntime, err)
	}
	p.runtimes = append([]launch.Runtime{{Name: name, Program: path}}, p.runtimes...)
	return p, nil
}

// find looks for a program beside this one, then in $PATH.
func find(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errdefs.Hint(errdefs.New(errdefs.NotFound, "no %s beside laded or in $PATH", name), "install all of Lade's programs in one directory")
	}
	return filepath.Abs(path)
}
