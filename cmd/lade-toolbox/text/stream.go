package text

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"lade/cmd/lade-toolbox/cmdline"
)

// followFile prints what is added to a file, as tail -f does.
func followFile(name string, r io.Reader) error {
	if name == "-" {
		return nil
	}
	// A file tells of no end; inotify would, but not on every file system that
	// a container sees.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.Copy(os.Stdout, r); err != nil {
			return err
		}
	}
	return nil
}

// Tr translates, deletes and squeezes characters.
func Tr(args []string) error {
	o, rest, err := cmdline.Getopt(args, "dscC", nil)
	if err != nil || len(rest) == 0 {
		return errors.Join(err, cmdline.Need(rest, 1))
	}
	from := set(rest[0])
	var to []byte
	if len(rest) > 1 {
		to = set(rest[1])
	}
	if !o.Has('d') && !o.Has('s') && len(to) == 0 {
		return cmdline.Usage("missing operand")
	}
	in := [256]bool{}
	m := [256]byte{}
	for i := range m {
		m[i] = byte(i)
	}
	for i, c := range from {
		in[c] = true
		if len(to) > 0 && !o.Has('d') {
			m[c] = to[min(i, len(to)-1)]
		}
	}
	if o.Has('c') || o.Has('C') {
		for i := range in {
			in[i] = !in[i]
			if m[i] = byte(i); in[i] && len(to) > 0 {
				m[i] = to[len(to)-1]
			}
		}
	}
	return translate(o, in, m, len(to) > 0)
}

func translate(o cmdline.Options, in [256]bool, m [256]byte, mapped bool) error {
	r, last := bufio.NewReaderSize(os.Stdin, 64<<10), -1
	w, flush := cmdline.Flushed()
	for {
		c, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return flush()
		}
		if err != nil {
			return errors.Join(err, flush())
		}
		if in[c] && o.Has('d') {
			continue
		}
		out := c
		if in[c] && mapped {
			out = m[c]
		}
		if o.Has('s') && in[c] && int(out) == last {
			continue
		}
		last = int(out)
		_ = w.WriteByte(out)
		if r.Buffered() == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// set expands ranges, classes and escapes of tr.
func set(s string) []byte {
	classes := map[string]string{"upper": "A-Z", "lower": "a-z", "digit": "0-9", "alpha": "A-Za-z", "alnum": "A-Za-z0-9", "space": "\t-\r ", "punct": "!-/:-@[-`{-~"}
	for name, chars := range classes {
		s = strings.ReplaceAll(s, "[:"+name+":]", chars)
	}
	s = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\\`, `\`, `\0`, "\x00").Replace(s)
	var out []byte
	for i := 0; i < len(s); i++ {
		if i+2 < len(s) && s[i+1] == '-' && s[i] <= s[i+2] {
			for c := int(s[i]); c <= int(s[i+2]); c++ {
				out = append(out, byte(c))
			}
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}

// sedStep is one command of a sed script: s, d, p or q, at a line or a match.
type sedStep struct {
	line    int // 0: any; -1: the last
	match   *regexp.Regexp
	verb    byte
	find    *regexp.Regexp
	replace string
	all     bool
	print   bool
}

// Sed knows s, d, p and q with one address: what scripts use it for mostly.
func Sed(args []string) error {
	o, rest, err := cmdline.Getopt(args, "nEre:i", nil)
	if err != nil {
		return err
	}
	scripts := o['e']
	if len(scripts) == 0 {
		if len(rest) == 0 {
			return cmdline.Usage("missing script")
		}
		scripts, rest = rest[:1], rest[1:]
	}
	var steps []sedStep
	for _, s := range scripts {
		more, err := parseSed(s, o.Has('E') || o.Has('r'))
		if err != nil {
			return err
		}
		steps = append(steps, more...)
	}
	if !o.Has('i') {
		w, flush := cmdline.Flushed()
		err := cmdline.Inputs(rest, func(_ string, r io.Reader) error { return runSed(steps, r, w, o.Has('n')) })
		return errors.Join(err, flush())
	}
	return cmdline.Each(rest, func(name string) error {
		in, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var out strings.Builder
		if err := runSed(steps, strings.NewReader(string(in)), &out, o.Has('n')); err != nil {
			return err
		}
		return os.WriteFile(name, []byte(out.String()), 0o666)
	})
}

func parseSed(script string, extended bool) ([]sedStep, error) {
	expr := func(p string) (*regexp.Regexp, error) {
		if !extended {
			p = basic(p)
		}
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, cmdline.Usage("%v", err)
		}
		return re, nil
	}
	var steps []sedStep
	for rest := strings.TrimLeft(script, " ;\n"); rest != ""; rest = strings.TrimLeft(rest, " ;\n") {
		var s sedStep
		var err error
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		switch {
		case digits > 0:
			s.line, _ = strconv.Atoi(rest[:digits])
			rest = rest[digits:]
		case rest[0] == '$':
			s.line, rest = -1, rest[1:]
		case rest[0] == '/':
			parts, tail := splitSed(rest, 1)
			if s.match, err = expr(parts[0]); err != nil {
				return nil, err
			}
			rest = tail
		}
		if rest == "" {
			return nil, cmdline.Usage("sed: missing command in %q", script)
		}
		s.verb, rest = rest[0], rest[1:]
		switch s.verb {
		case 'd', 'p', 'q':
		case 's':
			if rest == "" {
				return nil, cmdline.Usage("sed: unfinished s in %q", script)
			}
			parts, tail := splitSed(rest, 2)
			if len(parts) < 2 {
				return nil, cmdline.Usage("sed: unfinished s in %q", script)
			}
			flags := len(tail) - len(strings.TrimLeft(tail, "gpI"))
			s.all, s.print = strings.Contains(tail[:flags], "g"), strings.Contains(tail[:flags], "p")
			if strings.Contains(tail[:flags], "I") {
				parts[0] = "(?i)" + parts[0]
			}
			if s.find, err = expr(parts[0]); err != nil {
				return nil, err
			}
			s.replace, rest = parts[1], tail[flags:]
		default:
			return nil, cmdline.Usage("sed: the command %c is not known here", s.verb)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// splitSed reads n parts that end with the delimiter that s begins with.
func splitSed(s string, n int) (parts []string, rest string) {
	delim := s[0]
	s = s[1:]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			if s[i+1] != delim {
				b.WriteByte('\\')
			}
			i++
			b.WriteByte(s[i])
		case s[i] == delim:
			parts = append(parts, b.String())
			b.Reset()
			if len(parts) == n {
				return parts, s[i+1:]
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return append(parts, b.String()), ""
}

func runSed(steps []sedStep, r io.Reader, w io.Writer, quiet bool) error {
	var lines []string
	if err := cmdline.EachLine(r, func(l string) bool { lines = append(lines, l); return true }); err != nil {
		return err
	}
	for i, line := range lines {
		deleted, quit := false, false
		for _, s := range steps {
			if s.line > 0 && s.line != i+1 || s.line < 0 && i != len(lines)-1 || s.match != nil && !s.match.MatchString(line) {
				continue
			}
			switch s.verb {
			case 'd':
				deleted = true
			case 'p':
				_, _ = fmt.Fprintln(w, line)
			case 'q':
				quit = true
			case 's':
				if s.find.MatchString(line) {
					if line = substitute(s, line); s.print {
						_, _ = fmt.Fprintln(w, line)
					}
				}
			}
			if deleted || quit {
				break
			}
		}
		if !deleted && !quiet {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		if quit {
			return nil
		}
	}
	return nil
}

// substitute replaces matches; & and \1 stand for what was found.
func substitute(s sedStep, line string) string {
	var out strings.Builder
	n := 1
	if s.all {
		n = -1
	}
	end := 0
	for _, m := range s.find.FindAllStringSubmatchIndex(line, n) {
		out.WriteString(line[end:m[0]])
		for i := 0; i < len(s.replace); i++ {
			c := s.replace[i]
			group := -1
			switch {
			case c == '&':
				group = 0
			case c == '\\' && i+1 < len(s.replace):
				i++
				if c = s.replace[i]; c >= '0' && c <= '9' {
					group = int(c - '0')
				} else if c == 'n' {
					c = '\n'
				}
			}
			switch {
			case group < 0:
				out.WriteByte(c)
			case 2*group+1 < len(m) && m[2*group] >= 0:
				out.WriteString(line[m[2*group]:m[2*group+1]])
			}
		}
		end = m[1]
	}
	return out.String() + line[end:]
}
