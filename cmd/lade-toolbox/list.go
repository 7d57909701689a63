package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lade/cmd/lade-toolbox/cmdline"
)

// listed is one line of ls.
type listed struct {
	name string // as shown
	path string
	info fs.FileInfo
}

func ls(args []string) error {
	o, rest, err := cmdline.Getopt(args, "laA1dhRtSrinFpLkgo", map[string]byte{"all": 'a', "almost-all": 'A', "human-readable": 'h', "color": 'p', "recursive": 'R'})
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		rest = []string{"."}
	}
	look := os.Lstat
	if o.Has('L') {
		look = os.Stat
	}
	var files, dirs []listed
	var errs []error
	for _, p := range rest {
		st, err := look(p)
		if err == nil && st.Mode()&fs.ModeSymlink != 0 && !o.Has('l') {
			if to, err := os.Stat(p); err == nil && to.IsDir() {
				st = to
			}
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case st.IsDir() && !o.Has('d'):
			dirs = append(dirs, listed{p, p, st})
		default:
			files = append(files, listed{p, p, st})
		}
	}
	showList(o, files)
	for i, d := range dirs {
		if len(rest) > 1 || o.Has('R') {
			if i > 0 || len(files) > 0 {
				fmt.Println()
			}
			fmt.Println(d.name + ":")
		}
		errs = append(errs, listDir(o, d.path))
	}
	return errors.Join(errs...)
}

func listDir(o cmdline.Options, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var list []listed
	if o.Has('a') {
		for _, n := range []string{".", ".."} {
			if st, err := os.Lstat(filepath.Join(dir, n)); err == nil {
				list = append(list, listed{n, filepath.Join(dir, n), st})
			}
		}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !o.Has('a') && !o.Has('A') {
			continue
		}
		if st, err := e.Info(); err == nil {
			list = append(list, listed{e.Name(), filepath.Join(dir, e.Name()), st})
		}
	}
	if o.Has('l') {
		var blocks int64
		for _, l := range list {
			if s, ok := l.info.Sys().(*syscall.Stat_t); ok {
				blocks += s.Blocks / 2
			}
		}
		fmt.Println("total", blocks)
	}
	showList(o, list)
	if !o.Has('R') {
		return nil
	}
	var errs []error
	for _, l := range list {
		if l.info.IsDir() && l.name != "." && l.name != ".." {
			fmt.Printf("\n%s:\n", l.path)
			errs = append(errs, listDir(o, l.path))
		}
	}
	return errors.Join(errs...)
}

func showList(o cmdline.Options, list []listed) {
	slices.SortStableFunc(list, func(a, b listed) int {
		if o.Has('r') {
			a, b = b, a
		}
		switch {
		case o.Has('t'):
			return cmp.Or(b.info.ModTime().Compare(a.info.ModTime()), cmp.Compare(a.name, b.name))
		case o.Has('S'):
			return cmp.Or(cmp.Compare(b.info.Size(), a.info.Size()), cmp.Compare(a.name, b.name))
		}
		return cmp.Compare(a.name, b.name)
	})
	lines := make([][]string, 0, len(list))
	width := make([]int, 8)
	for _, l := range list {
		c := columns(o, l)
		for i, s := range c[:len(c)-1] {
			width[i] = max(width[i], len(s))
		}
		lines = append(lines, c)
	}
	w, flush := cmdline.Flushed()
	for _, c := range lines {
		for i, s := range c[:len(c)-1] {
			_, _ = fmt.Fprintf(w, "%*s ", width[i], s)
		}
		_, _ = fmt.Fprintln(w, c[len(c)-1])
	}
	_ = flush()
}

// columns returns the columns of one line; the last is the name.
func columns(o cmdline.Options, l listed) []string {
	s, ok := l.info.Sys().(*syscall.Stat_t)
	name := l.name
	if o.Has('F') && l.info.IsDir() {
		name += "/"
	}
	var c []string
	if o.Has('i') && ok {
		c = append(c, fmt.Sprint(s.Ino))
	}
	if !o.Has('l') || !ok {
		return append(c, name)
	}
	size := fmt.Sprint(s.Size)
	if o.Has('h') {
		size = cmdline.Human(s.Size)
	}
	if s.Mode&syscall.S_IFMT == syscall.S_IFCHR || s.Mode&syscall.S_IFMT == syscall.S_IFBLK {
		size = fmt.Sprintf("%d,%4d", s.Rdev>>8&0xfff, s.Rdev&0xff|s.Rdev>>12&0xfff00)
	}
	user, group := userName(s.Uid), groupName(s.Gid)
	if o.Has('n') {
		user, group = fmt.Sprint(s.Uid), fmt.Sprint(s.Gid)
	}
	when := l.info.ModTime().Format("Jan _2 15:04")
	if age := time.Since(l.info.ModTime()); age > 180*24*time.Hour || age < -time.Hour {
		when = l.info.ModTime().Format("Jan _2  2006")
	}
	if l.info.Mode()&fs.ModeSymlink != 0 {
		if to, err := os.Readlink(l.path); err == nil {
			name += " -> " + to
		}
	}
	return append(c, modeString(s.Mode), fmt.Sprint(s.Nlink), user, group, size, when, name)
}

// modeString shows a mode as ls does.
func modeString(m uint32) string {
	kind := map[uint32]byte{syscall.S_IFDIR: 'd', syscall.S_IFLNK: 'l', syscall.S_IFCHR: 'c', syscall.S_IFBLK: 'b', syscall.S_IFIFO: 'p', syscall.S_IFSOCK: 's'}[m&syscall.S_IFMT]
	if kind == 0 {
		kind = '-'
	}
	b := []byte{kind}
	for i := range 9 {
		c := byte('-')
		if m&(1<<(8-i)) != 0 {
			c = "rwx"[i%3]
		}
		b = append(b, c)
	}
	for i, set := range []struct {
		bit uint32
		c   byte
	}{{syscall.S_ISUID, 's'}, {syscall.S_ISGID, 's'}, {syscall.S_ISVTX, 't'}} {
		if m&set.bit == 0 {
			continue
		}
		at := 3 + 3*i
		if b[at] == '-' {
			set.c -= 'a' - 'A'
		}
		b[at] = set.c
	}
	return string(b)
}

// finder is one find command: tests that must all hold, and what to do then.
type finder struct {
	minDepth, maxDepth int
	inside             bool // what is in a directory before the directory
	tests              []func(p string, d fs.DirEntry) bool
	do                 []func(p string) error
}

func findCmd(args []string) error {
	var roots []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "!" {
		roots = append(roots, args[0])
		args = args[1:]
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	f := finder{maxDepth: 1 << 30}
	if err := f.parse(args); err != nil {
		return err
	}
	if len(f.do) == 0 {
		f.do = append(f.do, func(p string) error { _, err := fmt.Println(p); return err })
	}
	return cmdline.Each(roots, f.walk)
}

// parse reads find's expression. Tests are joined by and; there is no or.
func (f *finder) parse(args []string) error {
	not := false
	for i := 0; i < len(args); i++ {
		op := args[i]
		value := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		}
		var test func(string, fs.DirEntry) bool
		var err error
		switch op {
		case "!", "-not":
			not = !not
			continue
		case "-a", "-and", "-xdev":
		case "-depth":
			f.inside = true
		case "-print":
			f.do = append(f.do, func(p string) error { _, err := fmt.Println(p); return err })
		case "-print0":
			f.do = append(f.do, func(p string) error { _, err := fmt.Print(p + "\x00"); return err })
		case "-delete":
			f.inside = true
			f.do = append(f.do, os.Remove)
		case "-maxdepth":
			f.maxDepth, err = strconv.Atoi(value())
		case "-mindepth":
			f.minDepth, err = strconv.Atoi(value())
		case "-exec":
			end := slices.Index(args[i:], ";")
			if end < 0 {
				return cmdline.Usage("-exec needs a ; at its end")
			}
			f.do = append(f.do, executor(args[i+1:i+end]))
			i += end
		default:
			if test, err = predicate(op, value()); err == nil && test == nil {
				return cmdline.Usage("unknown test %s", op)
			}
		}
		if err != nil {
			return cmdline.Usage("%s: %v", op, err)
		}
		if test != nil {
			want := !not
			not = false
			f.tests = append(f.tests, func(p string, d fs.DirEntry) bool { return test(p, d) == want })
		}
	}
	return nil
}

func predicate(op, value string) (func(string, fs.DirEntry) bool, error) {
	lower := op == "-iname"
	switch op {
	case "-name", "-iname":
		if _, err := path.Match(value, ""); err != nil {
			return nil, err
		}
		return func(p string, _ fs.DirEntry) bool {
			name, pattern := filepath.Base(p), value
			if lower {
				name, pattern = strings.ToLower(name), strings.ToLower(pattern)
			}
			ok, _ := path.Match(pattern, name)
			return ok
		}, nil
	case "-path":
		return func(p string, _ fs.DirEntry) bool { ok, _ := path.Match(value, p); return ok }, nil
	case "-type":
		kind := map[string]fs.FileMode{"f": 0, "d": fs.ModeDir, "l": fs.ModeSymlink, "p": fs.ModeNamedPipe, "s": fs.ModeSocket, "b": fs.ModeDevice, "c": fs.ModeDevice | fs.ModeCharDevice}
		want, ok := kind[value]
		if !ok {
			return nil, fmt.Errorf("unknown type %q", value)
		}
		return func(_ string, d fs.DirEntry) bool { return d.Type() == want }, nil
	case "-newer":
		than, err := os.Stat(value)
		if err != nil {
			return nil, err
		}
		return func(_ string, d fs.DirEntry) bool {
			st, err := d.Info()
			return err == nil && st.ModTime().After(than.ModTime())
		}, nil
	case "-perm":
		want, err := strconv.ParseUint(strings.TrimLeft(value, "-/"), 8, 32)
		return func(_ string, d fs.DirEntry) bool {
			st, err := d.Info()
			s, ok := st.Sys().(*syscall.Stat_t)
			return err == nil && ok && (uint64(s.Mode)&0o7777 == want || value[0] == '-' && uint64(s.Mode)&want == want)
		}, err
	}
	return nil, nil //nolint:nilnil // no such test: the caller says so
}

func executor(words []string) func(string) error {
	return func(p string) error {
		line := slices.Clone(words)
		for i := range line {
			line[i] = strings.ReplaceAll(line[i], "{}", p)
		}
		if len(line) == 0 {
			return cmdline.Usage("-exec needs a command")
		}
		cmd := exec.Command(line[0], line[1:]...) //nolint:noctx // as long as it takes
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := exitOf(line[0], cmd.Run()); err != nil {
			return fs.SkipAll
		}
		return nil
	}
}

func (f *finder) walk(root string) error {
	var errs []error
	var found []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		depth := 0
		if p != root {
			depth = strings.Count(strings.TrimPrefix(strings.TrimPrefix(p, root), "/"), "/") + 1
		}
		match := depth >= f.minDepth
		for _, t := range f.tests {
			match = match && t(p, d)
		}
		if match {
			found = append(found, p)
		}
		if d.IsDir() && depth >= f.maxDepth {
			return fs.SkipDir
		}
		return nil
	})
	if f.inside {
		slices.Reverse(found)
	}
	for _, p := range found {
		for _, do := range f.do {
			if err := do(p); err != nil && !errors.Is(err, fs.SkipAll) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, err)...)
}
