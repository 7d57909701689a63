package cgroup

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Hierarchy is one mounted cgroup tree.
type Hierarchy struct {
	// V2 marks the unified hierarchy.
	V2 bool `json:"v2,omitempty"`
	// Controllers are those that the tree controls, in the kernel's words:
	// "cpu", "memory", "blkio" (v1) or "io" (v2) and so on.
	Controllers []string `json:"controllers,omitempty"`
	// Name is that of a named v1 hierarchy: "systemd".
	Name string `json:"name,omitempty"`
	// Mount is where it is mounted.
	Mount string `json:"mount"`
	// Root is the cgroup that is seen at Mount: "/" unless a part of the tree
	// was bound there.
	Root string `json:"root"`
	// Own is the cgroup of this process, as /proc/self/cgroup has it.
	Own string `json:"own"`
	// NoPrefix marks a cpuset tree whose files lack "cpuset.".
	NoPrefix bool `json:"noPrefix,omitempty"`
}

// ownDir returns the directory of this process's own cgroup, or Mount where
// that lies outside of what is mounted.
func (h Hierarchy) ownDir() string {
	rel, err := filepath.Rel(h.Root, h.Own)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return h.Mount
	}
	return filepath.Join(h.Mount, rel)
}

// Layout is what cgroup trees a machine has.
type Layout struct {
	Hierarchies []Hierarchy `json:"hierarchies"`
}

// Unified reports whether there is no hierarchy but v2.
func (l Layout) Unified() bool {
	return len(l.Hierarchies) == 1 && l.Hierarchies[0].V2
}

// find returns the index of the hierarchy that controls one of the named
// controllers, or -1.
func (l Layout) find(controllers ...string) int {
	return slices.IndexFunc(l.Hierarchies, func(h Hierarchy) bool {
		return slices.ContainsFunc(controllers, func(c string) bool { return slices.Contains(h.Controllers, c) })
	})
}

// v2 returns the index of the unified hierarchy, or -1.
func (l Layout) v2() int {
	return slices.IndexFunc(l.Hierarchies, func(h Hierarchy) bool { return h.V2 })
}

// Detect returns the layout that this process sees. It reads two or three
// small files, in some tens of microseconds.
func Detect() (Layout, error) {
	mounts, err := readFile("/proc/self/mountinfo")
	if err != nil {
		return Layout{}, fmt.Errorf("find cgroups: %w", err)
	}
	l := parseMounts(mounts)
	if len(l.Hierarchies) == 0 {
		return Layout{}, errdefs.Hint(errdefs.New(errdefs.NotImplemented, "no cgroup hierarchy is mounted"),
			"mount one: mount -t cgroup2 none /sys/fs/cgroup")
	}
	own, err := readFile("/proc/self/cgroup")
	if err != nil {
		return Layout{}, fmt.Errorf("find own cgroups: %w", err)
	}
	l.addOwn(own)
	if i := l.v2(); i >= 0 {
		h := &l.Hierarchies[i]
		b, err := readFile(h.Mount + "/cgroup.controllers")
		if err != nil {
			return Layout{}, fmt.Errorf("find controllers: %w", err)
		}
		h.Controllers = strings.Fields(string(b))
	}
	return l, nil
}

// mountLine is what parseMounts keeps of every mount, to tell which are hidden.
type mountLine struct{ id, parent, point string }

// parseMounts finds the cgroup mounts in a mountinfo that are in sight.
func parseMounts(info []byte) Layout {
	var lines []mountLine
	var found []Hierarchy
	var at []int // where in lines each of found is
	for line := range bytes.Lines(info) {
		point := field(line, 4)
		if len(point) == 0 {
			continue
		}
		lines = append(lines, mountLine{string(field(line, 0)), string(field(line, 1)), unescape(point)})
		_, rest, ok := bytes.Cut(line, []byte(" - cgroup"))
		if !ok {
			continue
		}
		h := Hierarchy{Mount: unescape(point), Root: unescape(field(line, 3))}
		switch {
		case bytes.HasPrefix(rest, []byte("2 ")):
			h.V2 = true
		case bytes.HasPrefix(rest, []byte(" ")):
			h.parseOptions(string(field(rest, 1)))
		default:
			continue
		}
		found, at = append(found, h), append(at, len(lines)-1)
	}
	var l Layout
	for i, h := range found {
		// The same tree may be mounted in several places.
		if !hidden(lines, at[i]) && !slices.ContainsFunc(l.Hierarchies, h.same) {
			l.Hierarchies = append(l.Hierarchies, h)
		}
	}
	return l
}

// hidden reports whether another mount lies over mount i, or over a folder
// above it, and not below it in the tree of mounts. That is how a namespace is
// made to look like another machine.
func hidden(lines []mountLine, i int) bool {
	m := lines[i]
	for _, over := range lines[i+1:] {
		if within(m.point, over.point) && !above(lines, over.id, m) {
			return true
		}
	}
	return false
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// above reports whether the mount id is m itself or one that m is mounted in.
func above(lines []mountLine, id string, m mountLine) bool {
	for range lines {
		if m.id == id {
			return true
		}
		i := slices.IndexFunc(lines, func(l mountLine) bool { return l.id == m.parent })
		if i < 0 {
			return false
		}
		m = lines[i]
	}
	return false
}

func (h Hierarchy) same(o Hierarchy) bool {
	return h.V2 == o.V2 && h.Name == o.Name && slices.Equal(h.Controllers, o.Controllers)
}

// parseOptions reads the super options of a v1 mount: the controllers, a name,
// and flags.
func (h *Hierarchy) parseOptions(options string) {
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "", "rw", "ro", "xattr", "clone_children", "all", "none", "cpuset_v2_mode", "favordynmods":
		case "noprefix":
			h.NoPrefix = true
		default:
			key, value, found := strings.Cut(o, "=")
			switch {
			case key == "name":
				h.Name = value
			case !found:
				h.Controllers = append(h.Controllers, o)
			}
		}
	}
}

// addOwn fills in where this process is, from /proc/self/cgroup: lines such as
// "4:cpu,cpuacct:/a/b", "1:name=systemd:/" and "0::/".
func (l Layout) addOwn(b []byte) {
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for i := range l.Hierarchies {
			h := &l.Hierarchies[i]
			switch {
			case f[0] == "0" && f[1] == "":
				if h.V2 {
					h.Own = f[2]
				}
			case h.V2:
			case h.Name != "" && f[1] == "name="+h.Name,
				len(h.Controllers) > 0 && slices.Contains(strings.Split(f[1], ","), h.Controllers[0]):
				h.Own = f[2]
			}
		}
	}
}

// field returns the n-th field, from 0, of a line.
func field(line []byte, n int) []byte {
	line = bytes.TrimLeft(line, " ")
	for range n {
		_, line, _ = bytes.Cut(line, []byte(" "))
	}
	if i := bytes.IndexAny(line, " \n"); i >= 0 {
		line = line[:i]
	}
	return line
}

// unescape undoes mountinfo's octal escapes of space, tab, newline and \.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(string(b))
}

// readFile reads a file of the kernel. os.ReadFile would take twice the calls.
func readFile(path string) ([]byte, error) {
	fd, err := openRetry(path, unix.O_RDONLY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 8192)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		}
		b = b[:len(b)+n]
	}
}

func openRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Of returns the cgroups of a process: as they are now, and only those that
// can be seen from here.
func (l Layout) Of(pid int) (Group, error) {
	b, err := readFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Group{}, fmt.Errorf("find the cgroups of process %d: %w", pid, err)
	}
	of := Layout{Hierarchies: slices.Clone(l.Hierarchies)}
	for i := range of.Hierarchies {
		of.Hierarchies[i].Own = ""
	}
	of.addOwn(b)
	var g Group
	for _, h := range of.Hierarchies {
		rel, err := filepath.Rel(h.Root, h.Own)
		if h.Own == "" || err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue
		}
		g.Dirs = append(g.Dirs, Dir{Path: filepath.Join(h.Mount, rel), V2: h.V2, Controllers: h.Controllers})
	}
	return g, nil
}
