package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/devfilter"
)

// Op is what a step does.
type Op string

// The operations.
const (
	// Mkdir makes the directory Path, unless it is there.
	Mkdir Op = "mkdir"
	// Write writes Value to the file Path.
	Write Op = "write"
	// Enable writes Value, a list of controllers, to a cgroup.subtree_control;
	// those that cannot be enabled are left out, as a limit that needs one
	// fails by itself, and a container without that limit need not.
	Enable Op = "enable"
	// Inherit fills the file Path, where it is empty, with what the file of
	// the same name in the parent cgroup holds.
	Inherit Op = "inherit"
	// AtMost fails unless the file Path holds a number not above Value.
	AtMost Op = "at most"
	// Filter puts a device filter on the v2 directory Path; Value is its
	// policy in words.
	Filter Op = "filter"
)

// Step is one thing to do to the cgroup file system.
type Step struct {
	Op    Op     `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value,omitempty"`
	// Why names the field of the configuration, or the rule, behind the step.
	Why string `json:"why"`
	// Tolerate are the errors that count as success.
	Tolerate []unix.Errno `json:"tolerate,omitempty"`
	// Else is done instead where the file Path does not exist.
	Else *Step `json:"else,omitempty"`

	policy devfilter.Policy // of Filter
}

// String returns the step as a line of a listing, without its reason.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", s.Op, s.Path)
	if s.Value != "" {
		fmt.Fprintf(&b, " %q", s.Value)
	}
	for _, e := range s.Tolerate {
		fmt.Fprintf(&b, " (or %s)", unix.ErrnoName(e))
	}
	if s.Else != nil {
		fmt.Fprintf(&b, " else %s", *s.Else)
	}
	return b.String()
}

// Do carries out the step.
func (s Step) Do() error {
	err := s.act()
	if s.Else != nil && errors.Is(err, fs.ErrNotExist) {
		return s.Else.Do()
	}
	var errno unix.Errno
	if err == nil || errors.As(err, &errno) && slices.Contains(s.Tolerate, errno) {
		return nil
	}
	return fmt.Errorf("set cgroup for %s: %w", s.Why, err)
}

func (s Step) act() error {
	switch s.Op {
	case Mkdir:
		if err := unix.Mkdir(s.Path, 0o755); err != nil && err != unix.EEXIST {
			return &fs.PathError{Op: "mkdir", Path: s.Path, Err: err}
		}
		return nil
	case Write:
		return writeFile(s.Path, s.Value)
	case Enable:
		return enable(s.Path, s.Value)
	case Inherit:
		return inherit(s.Path)
	case AtMost:
		return atMost(s.Path, s.Value)
	case Filter:
		return s.policy.Compile().Attach(s.Path)
	}
	return fmt.Errorf("cgroup step %q: %w", s.Op, unix.EINVAL)
}

// Do carries out steps in order, up to the first error.
func Do(steps []Step) error {
	for _, s := range steps {
		if err := s.Do(); err != nil {
			return err
		}
	}
	return nil
}

// enable enables controllers at once, or one by one where that is refused.
// Nothing is asked of the kernel when they are enabled already.
func enable(path, value string) error {
	have, err := readFile(path)
	if err != nil {
		return err
	}
	enabled := strings.Fields(string(have))
	var missing []string
	for c := range strings.FieldsSeq(value) {
		if !slices.Contains(enabled, strings.TrimPrefix(c, "+")) {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 || writeFile(path, strings.Join(missing, " ")) == nil {
		return nil
	}
	for _, c := range missing {
		_ = writeFile(path, c)
	}
	return nil
}

func atMost(path, value string) error {
	most, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return fmt.Errorf("compare %s: %w", path, err)
	}
	have, err := readNumber(path)
	if err != nil {
		return err
	}
	if have > most {
		return errdefs.New(errdefs.Conflict, "%s is %d, more than %d", path, have, most)
	}
	return nil
}

func inherit(path string) error {
	have, err := readFile(path)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(have)) != "" {
		return nil
	}
	dir, name := filepath.Split(path)
	b, err := readFile(filepath.Join(filepath.Dir(filepath.Clean(dir)), name))
	if err != nil {
		return err
	}
	return writeFile(path, strings.TrimSpace(string(b)))
}

// writeFile writes to a file of the kernel, which must exist.
func writeFile(path, value string) error {
	fd, err := openRetry(path, unix.O_WRONLY)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Write(fd, []byte(value))
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		}
		return &fs.PathError{Op: fmt.Sprintf("write %q to", value), Path: path, Err: err}
	}
}
