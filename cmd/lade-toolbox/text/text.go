// Package text has the commands that read and write lines of text.
package text

import (
	"bytes"
	"cmp"
	"crypto/md5"  //nolint:gosec // md5sum and sha1sum are what people call
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lade/cmd/lade-toolbox/cmdline"
)

// count reads the -N form of a number of lines along with -n N.
func countArgs(args []string) []string {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "0123456789") == "" {
		return append([]string{"-n", args[0][1:]}, args[1:]...)
	}
	return args
}

// Head prints the beginning of its inputs.
func Head(args []string) error {
	o, rest, err := cmdline.Getopt(countArgs(args), "n:c:qv", map[string]byte{"lines": 'n', "bytes": 'c'})
	if err != nil {
		return err
	}
	n, err := cmdline.Size(o.Last('n', "10"))
	if err != nil {
		return err
	}
	return cmdline.Inputs(rest, func(name string, r io.Reader) error {
		if len(rest) > 1 && !o.Has('q') {
			fmt.Printf("==> %s <==\n", name)
		}
		if o.Has('c') {
			c, err := cmdline.Size(o.Last('c', ""))
			if err != nil {
				return err
			}
			_, err = io.CopyN(os.Stdout, r, c)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		left := n
		if left == 0 {
			return nil
		}
		return cmdline.EachLine(r, func(line string) bool {
			fmt.Println(line)
			left--
			return left > 0
		})
	})
}

// Tail prints the end of its inputs.
func Tail(args []string) error {
	o, rest, err := cmdline.Getopt(countArgs(args), "n:c:fFq", map[string]byte{"lines": 'n', "bytes": 'c', "follow": 'f'})
	if err != nil {
		return err
	}
	v := o.Last('n', "10")
	from := strings.HasPrefix(v, "+")
	n, err := cmdline.Size(strings.TrimPrefix(v, "+"))
	if err != nil {
		return err
	}
	return cmdline.Inputs(rest, func(name string, r io.Reader) error {
		if len(rest) > 1 && !o.Has('q') {
			fmt.Printf("==> %s <==\n", name)
		}
		if o.Has('c') {
			return tailBytes(r, o.Last('c', ""))
		}
		if err := tailLines(r, n, from); err != nil || !o.Has('f') && !o.Has('F') {
			return err
		}
		return followFile(name, r)
	})
}

func tailBytes(r io.Reader, c string) error {
	n, err := cmdline.Size(c)
	if err != nil {
		return err
	}
	all, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(all[max(0, int64(len(all))-n):])
	return err
}

func tailLines(r io.Reader, n int64, from bool) error {
	w, flush := cmdline.Flushed()
	var last []string
	i := int64(0)
	err := cmdline.EachLine(r, func(line string) bool {
		i++
		switch {
		case from && i >= n:
			_, _ = fmt.Fprintln(w, line)
		case !from && n > 0:
			if last = append(last, line); int64(len(last)) > n {
				last = last[1:]
			}
		}
		return true
	})
	for _, line := range last {
		_, _ = fmt.Fprintln(w, line)
	}
	return errors.Join(err, flush())
}

// Wc counts lines, words and bytes.
func Wc(args []string) error {
	o, rest, err := cmdline.Getopt(args, "lwcm", nil)
	if err != nil {
		return err
	}
	if len(o) == 0 {
		o = cmdline.Options{'l': {""}, 'w': {""}, 'c': {""}}
	}
	var total [3]int64
	show := func(n [3]int64, name string) {
		var parts []string
		for i, c := range []byte("lwc") {
			if o.Has(c) || c == 'c' && o.Has('m') {
				parts = append(parts, strconv.FormatInt(n[i], 10))
			}
		}
		if name != "-" {
			parts = append(parts, name)
		}
		fmt.Println(strings.Join(parts, " "))
	}
	err = cmdline.Inputs(rest, func(name string, r io.Reader) error {
		var n [3]int64
		in := false
		buf := make([]byte, 64<<10)
		for {
			m, err := r.Read(buf)
			for _, c := range buf[:m] {
				if c == '\n' {
					n[0]++
				}
				space := c == ' ' || c >= '\t' && c <= '\r'
				if !space && !in {
					n[1]++
				}
				in = !space
			}
			n[2] += int64(m)
			if err != nil {
				show(n, name)
				for i := range total {
					total[i] += n[i]
				}
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return err
			}
		}
	})
	if len(rest) > 1 {
		show(total, "total")
	}
	return err
}

// Sort sorts lines.
func Sort(args []string) error {
	o, rest, err := cmdline.Getopt(args, "nruk:t:fhs", map[string]byte{"numeric-sort": 'n', "reverse": 'r', "unique": 'u'})
	if err != nil {
		return err
	}
	var lines []string
	err = cmdline.Inputs(rest, func(_ string, r io.Reader) error {
		return cmdline.EachLine(r, func(line string) bool { lines = append(lines, line); return true })
	})
	if err != nil {
		return err
	}
	field, _ := strconv.Atoi(strings.TrimRight(strings.SplitN(o.Last('k', "0"), ",", 2)[0], "nr"))
	numeric := o.Has('n') || strings.Contains(o.Last('k', ""), "n")
	key := func(l string) string {
		if field > 0 {
			parts := strings.Fields(l)
			if sep := o.Last('t', ""); sep != "" {
				parts = strings.Split(l, sep)
			}
			if field > len(parts) {
				return ""
			}
			return strings.Join(parts[field-1:], " ")
		}
		if o.Has('f') {
			return strings.ToUpper(l)
		}
		return l
	}
	compare := func(a, b string) int {
		ka, kb := key(a), key(b)
		if numeric {
			return cmp.Or(cmp.Compare(cmdline.Number(ka), cmdline.Number(kb)), cmp.Compare(a, b))
		}
		return cmp.Or(cmp.Compare(ka, kb), cmp.Compare(a, b))
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		if o.Has('r') {
			a, b = b, a
		}
		return compare(a, b)
	})
	if o.Has('u') {
		lines = slices.Compact(lines)
	}
	w, flush := cmdline.Flushed()
	for _, l := range lines {
		_, _ = fmt.Fprintln(w, l)
	}
	return flush()
}

// Uniq drops repeated lines.
func Uniq(args []string) error {
	o, rest, err := cmdline.Getopt(args, "cdu", nil)
	if err != nil {
		return err
	}
	w, flush := cmdline.Flushed()
	n, last := 0, ""
	show := func() {
		switch {
		case n == 0, o.Has('d') && n == 1, o.Has('u') && n > 1:
		case o.Has('c'):
			_, _ = fmt.Fprintf(w, "%7d %s\n", n, last)
		default:
			_, _ = fmt.Fprintln(w, last)
		}
	}
	err = cmdline.Inputs(rest[:min(1, len(rest))], func(_ string, r io.Reader) error {
		return cmdline.EachLine(r, func(line string) bool {
			if n > 0 && line != last {
				show()
				n = 0
			}
			n, last = n+1, line
			return true
		})
	})
	show()
	return errors.Join(err, flush())
}

// Fgrep is Grep for plain texts.
func Fgrep(args []string) error { return Grep(append([]string{"-F"}, args...)) }

// Grep prints lines that match.
func Grep(args []string) error {
	o, rest, err := cmdline.Getopt(args, "EFivnclqowe:hHrs", map[string]byte{"ignore-case": 'i', "invert-match": 'v', "quiet": 'q', "count": 'c'})
	if err != nil {
		return err
	}
	patterns := o['e']
	if len(patterns) == 0 {
		if len(rest) == 0 {
			return cmdline.Usage("missing pattern")
		}
		patterns, rest = rest[:1], rest[1:]
	}
	re, err := compile(o, patterns)
	if err != nil {
		return err
	}
	w, flush := cmdline.Flushed()
	found := false
	err = cmdline.Inputs(rest, func(name string, r io.Reader) error {
		n, hits := 0, 0
		prefix := ""
		if len(rest) > 1 && !o.Has('h') || o.Has('H') {
			prefix = name + ":"
		}
		err := cmdline.EachLine(r, func(line string) bool {
			n++
			if re.MatchString(line) == o.Has('v') {
				return true
			}
			hits++
			switch {
			case o.Has('q') || o.Has('l'):
				return false
			case o.Has('c'):
			case o.Has('o'):
				for _, m := range re.FindAllString(line, -1) {
					_, _ = fmt.Fprintln(w, prefix+m)
				}
			case o.Has('n'):
				_, _ = fmt.Fprintf(w, "%s%d:%s\n", prefix, n, line)
			default:
				_, _ = fmt.Fprintln(w, prefix+line)
			}
			return true
		})
		found = found || hits > 0
		switch {
		case o.Has('c'):
			_, _ = fmt.Fprintf(w, "%s%d\n", prefix, hits)
		case o.Has('l') && hits > 0:
			_, _ = fmt.Fprintln(w, name)
		}
		return err
	})
	if err := errors.Join(err, flush()); err != nil {
		fmt.Fprintln(os.Stderr, "grep:", err)
		return cmdline.StatusError(2)
	}
	if !found {
		return cmdline.StatusError(1)
	}
	return nil
}

// compile makes one expression of grep's patterns. Basic expressions differ
// from Go's in which characters want a backslash.
func compile(o cmdline.Options, patterns []string) (*regexp.Regexp, error) {
	var all []string
	for _, p := range patterns {
		for line := range strings.SplitSeq(p, "\n") {
			switch {
			case o.Has('F'):
				line = regexp.QuoteMeta(line)
			case !o.Has('E'):
				line = basic(line)
			}
			all = append(all, "(?:"+line+")")
		}
	}
	expr := strings.Join(all, "|")
	if o.Has('w') {
		expr = `\b(?:` + expr + `)\b`
	}
	if o.Has('i') {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, cmdline.Usage("%v", err)
	}
	return re, nil
}

// basic turns a basic regular expression into an extended one: it swaps what
// has a backslash among ( ) { } + ? | and what has not.
func basic(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		const swapped = "(){}+?|"
		switch c := p[i]; {
		case c == '\\' && i+1 < len(p):
			i++
			if strings.IndexByte(swapped, p[i]) < 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(p[i])
		case strings.IndexByte(swapped, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Cut prints parts of lines.
func Cut(args []string) error {
	o, rest, err := cmdline.Getopt(args, "d:f:c:b:s", map[string]byte{"delimiter": 'd', "fields": 'f', "characters": 'c'})
	if err != nil {
		return err
	}
	list := cmp.Or(o.Last('f', ""), o.Last('c', ""), o.Last('b', ""))
	picked, err := ranges(list)
	if err != nil {
		return err
	}
	sep := o.Last('d', "\t")
	if !o.Has('f') {
		sep = ""
	}
	w, flush := cmdline.Flushed()
	err = cmdline.Inputs(rest, func(_ string, r io.Reader) error {
		return cmdline.EachLine(r, func(line string) bool {
			if sep != "" && !strings.Contains(line, sep) {
				if !o.Has('s') {
					_, _ = fmt.Fprintln(w, line)
				}
				return true
			}
			var out []string
			for i, part := range strings.Split(line, sep) {
				if picked(i + 1) {
					out = append(out, part)
				}
			}
			_, _ = fmt.Fprintln(w, strings.Join(out, sep))
			return true
		})
	})
	return errors.Join(err, flush())
}

// ranges reads a list such as 1,3-5,7-.
func ranges(list string) (func(int) bool, error) {
	type span struct{ from, to int }
	var spans []span
	for part := range strings.SplitSeq(list, ",") {
		a, b, dash := strings.Cut(part, "-")
		s := span{1, 1 << 30}
		var err1, err2 error
		if a != "" {
			s.from, err1 = strconv.Atoi(a)
		}
		if b != "" {
			s.to, err2 = strconv.Atoi(b)
		}
		if !dash {
			s.to = s.from
		}
		if err1 != nil || err2 != nil || part == "" || part == "-" {
			return nil, cmdline.Usage("%q is no list of fields", list)
		}
		spans = append(spans, s)
	}
	return func(n int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return n >= s.from && n <= s.to })
	}, nil
}

// Tee copies stdin to files and stdout.
func Tee(args []string) error {
	o, rest, err := cmdline.Getopt(args, "ai", nil)
	if err != nil {
		return err
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if o.Has('a') {
		mode = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	out := []io.Writer{os.Stdout}
	for _, n := range rest {
		f, err := os.OpenFile(n, mode, 0o666)
		if err != nil {
			return err
		}
		defer f.Close()
		out = append(out, f)
	}
	_, err = io.Copy(io.MultiWriter(out...), os.Stdin)
	return err
}

// Seq counts.
func Seq(args []string) error {
	first, step, last := "1", "1", ""
	switch len(args) {
	case 1:
		last = args[0]
	case 2:
		first, last = args[0], args[1]
	case 3:
		first, step, last = args[0], args[1], args[2]
	default:
		return cmdline.Usage("usage: seq [FIRST [STEP]] LAST")
	}
	var n [3]int64
	for i, s := range []string{first, step, last} {
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return cmdline.Usage("%q is no number", s)
		}
	}
	if n[1] == 0 {
		return cmdline.Usage("the step is 0")
	}
	w, flush := cmdline.Flushed()
	for i := n[0]; n[1] > 0 && i <= n[2] || n[1] < 0 && i >= n[2]; i += n[1] {
		_, _ = w.WriteString(strconv.FormatInt(i, 10) + "\n")
	}
	return flush()
}

// Yes says so until nobody listens.
func Yes(args []string) error {
	line := "y\n"
	if len(args) > 0 {
		line = strings.Join(args, " ") + "\n"
	}
	block := bytes.Repeat([]byte(line), 1+8192/len(line))
	for {
		if _, err := os.Stdout.Write(block); err != nil {
			return err
		}
	}
}

// Sum returns the command that prints digests by the named algorithm.
func Sum(name string) cmdline.Command {
	return func(args []string) error {
		o, rest, err := cmdline.Getopt(args, "cb", map[string]byte{"check": 'c'})
		if err != nil {
			return err
		}
		digest := func(r io.Reader) (string, error) {
			h := map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}[name]()
			_, err := io.Copy(h, r)
			return hex.EncodeToString(h.Sum(nil)), err
		}
		return cmdline.Inputs(rest, func(name string, r io.Reader) error {
			if o.Has('c') {
				return checkSums(r, digest)
			}
			d, err := digest(r)
			if err == nil {
				fmt.Printf("%s  %s\n", d, name)
			}
			return err
		})
	}
}

func checkSums(r io.Reader, digest func(io.Reader) (string, error)) error {
	var errs []error
	err := cmdline.EachLine(r, func(line string) bool {
		want, name, _ := strings.Cut(line, " ")
		name = strings.TrimLeft(name, " *")
		f, err := os.Open(name)
		if err != nil {
			errs = append(errs, err)
			return true
		}
		got, err := digest(f)
		errs = append(errs, err, f.Close())
		if got == want {
			fmt.Println(name + ": OK")
		} else {
			fmt.Println(name + ": FAILED")
			errs = append(errs, cmdline.StatusError(1))
		}
		return true
	})
	return errors.Join(append(errs, err)...)
}
