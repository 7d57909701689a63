package main

import (
	"bufio"
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
)

// inputs calls fn with each named file, or stdin where none is named.
func inputs(names []string, fn func(name string, r io.Reader) error) error {
	if len(names) == 0 {
		names = []string{"-"}
	}
	var errs []error
	for _, n := range names {
		if n == "-" {
			errs = append(errs, fn(n, os.Stdin))
			continue
		}
		f, err := os.Open(n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, fn(n, f), f.Close())
	}
	return errors.Join(errs...)
}

// eachLine calls fn with each line, without its end, until fn returns false.
func eachLine(r io.Reader, fn func(line string) bool) error {
	b := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := b.ReadString('\n')
		if line != "" && !fn(strings.TrimSuffix(line, "\n")) {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flushed returns a buffered stdout, and what to call at the end.
func flushed() (*bufio.Writer, func() error) {
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	return w, w.Flush
}

// count reads the -N form of a number of lines along with -n N.
func countArgs(args []string) []string {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "0123456789") == "" {
		return append([]string{"-n", args[0][1:]}, args[1:]...)
	}
	return args
}

func head(args []string) error {
	o, rest, err := getopt(countArgs(args), "n:c:qv", map[string]byte{"lines": 'n', "bytes": 'c'})
	if err != nil {
		return err
	}
	n, err := size(o.last('n', "10"))
	if err != nil {
		return err
	}
	return inputs(rest, func(name string, r io.Reader) error {
		if len(rest) > 1 && !o.has('q') {
			fmt.Printf("==> %s <==\n", name)
		}
		if o.has('c') {
			c, err := size(o.last('c', ""))
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
		return eachLine(r, func(line string) bool {
			fmt.Println(line)
			left--
			return left > 0
		})
	})
}

func tail(args []string) error {
	o, rest, err := getopt(countArgs(args), "n:c:fFq", map[string]byte{"lines": 'n', "bytes": 'c', "follow": 'f'})
	if err != nil {
		return err
	}
	v := o.last('n', "10")
	from := strings.HasPrefix(v, "+")
	n, err := size(strings.TrimPrefix(v, "+"))
	if err != nil {
		return err
	}
	return inputs(rest, func(name string, r io.Reader) error {
		if len(rest) > 1 && !o.has('q') {
			fmt.Printf("==> %s <==\n", name)
		}
		if o.has('c') {
			return tailBytes(r, o.last('c', ""))
		}
		if err := tailLines(r, n, from); err != nil || !o.has('f') && !o.has('F') {
			return err
		}
		return followFile(name, r)
	})
}

func tailBytes(r io.Reader, c string) error {
	n, err := size(c)
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
	w, flush := flushed()
	var last []string
	i := int64(0)
	err := eachLine(r, func(line string) bool {
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

func wc(args []string) error {
	o, rest, err := getopt(args, "lwcm", nil)
	if err != nil {
		return err
	}
	if len(o) == 0 {
		o = options{'l': {""}, 'w': {""}, 'c': {""}}
	}
	var total [3]int64
	show := func(n [3]int64, name string) {
		var parts []string
		for i, c := range []byte("lwc") {
			if o.has(c) || c == 'c' && o.has('m') {
				parts = append(parts, strconv.FormatInt(n[i], 10))
			}
		}
		if name != "-" {
			parts = append(parts, name)
		}
		fmt.Println(strings.Join(parts, " "))
	}
	err = inputs(rest, func(name string, r io.Reader) error {
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

func sortCmd(args []string) error {
	o, rest, err := getopt(args, "nruk:t:fhs", map[string]byte{"numeric-sort": 'n', "reverse": 'r', "unique": 'u'})
	if err != nil {
		return err
	}
	var lines []string
	err = inputs(rest, func(_ string, r io.Reader) error {
		return eachLine(r, func(line string) bool { lines = append(lines, line); return true })
	})
	if err != nil {
		return err
	}
	field, _ := strconv.Atoi(strings.TrimRight(strings.SplitN(o.last('k', "0"), ",", 2)[0], "nr"))
	numeric := o.has('n') || strings.Contains(o.last('k', ""), "n")
	key := func(l string) string {
		if field > 0 {
			parts := strings.Fields(l)
			if sep := o.last('t', ""); sep != "" {
				parts = strings.Split(l, sep)
			}
			if field > len(parts) {
				return ""
			}
			return strings.Join(parts[field-1:], " ")
		}
		if o.has('f') {
			return strings.ToUpper(l)
		}
		return l
	}
	compare := func(a, b string) int {
		ka, kb := key(a), key(b)
		if numeric {
			return cmp.Or(cmp.Compare(number(ka), number(kb)), cmp.Compare(a, b))
		}
		return cmp.Or(cmp.Compare(ka, kb), cmp.Compare(a, b))
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		if o.has('r') {
			a, b = b, a
		}
		return compare(a, b)
	})
	if o.has('u') {
		lines = slices.Compact(lines)
	}
	w, flush := flushed()
	for _, l := range lines {
		_, _ = fmt.Fprintln(w, l)
	}
	return flush()
}

// number reads the number that a text begins with.
func number(s string) float64 {
	s = strings.TrimLeft(s, " \t")
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.' || i == 0 && s[i] == '-') {
		i++
	}
	f, _ := strconv.ParseFloat(s[:i], 64)
	return f
}

func uniq(args []string) error {
	o, rest, err := getopt(args, "cdu", nil)
	if err != nil {
		return err
	}
	w, flush := flushed()
	n, last := 0, ""
	show := func() {
		switch {
		case n == 0, o.has('d') && n == 1, o.has('u') && n > 1:
		case o.has('c'):
			_, _ = fmt.Fprintf(w, "%7d %s\n", n, last)
		default:
			_, _ = fmt.Fprintln(w, last)
		}
	}
	err = inputs(rest[:min(1, len(rest))], func(_ string, r io.Reader) error {
		return eachLine(r, func(line string) bool {
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

func fgrep(args []string) error { return grep(append([]string{"-F"}, args...)) }

func grep(args []string) error {
	o, rest, err := getopt(args, "EFivnclqowe:hHrs", map[string]byte{"ignore-case": 'i', "invert-match": 'v', "quiet": 'q', "count": 'c'})
	if err != nil {
		return err
	}
	patterns := o['e']
	if len(patterns) == 0 {
		if len(rest) == 0 {
			return usage("missing pattern")
		}
		patterns, rest = rest[:1], rest[1:]
	}
	re, err := compile(o, patterns)
	if err != nil {
		return err
	}
	w, flush := flushed()
	found := false
	err = inputs(rest, func(name string, r io.Reader) error {
		n, hits := 0, 0
		prefix := ""
		if len(rest) > 1 && !o.has('h') || o.has('H') {
			prefix = name + ":"
		}
		err := eachLine(r, func(line string) bool {
			n++
			if re.MatchString(line) == o.has('v') {
				return true
			}
			hits++
			switch {
			case o.has('q') || o.has('l'):
				return false
			case o.has('c'):
			case o.has('o'):
				for _, m := range re.FindAllString(line, -1) {
					_, _ = fmt.Fprintln(w, prefix+m)
				}
			case o.has('n'):
				_, _ = fmt.Fprintf(w, "%s%d:%s\n", prefix, n, line)
			default:
				_, _ = fmt.Fprintln(w, prefix+line)
			}
			return true
		})
		found = found || hits > 0
		switch {
		case o.has('c'):
			_, _ = fmt.Fprintf(w, "%s%d\n", prefix, hits)
		case o.has('l') && hits > 0:
			_, _ = fmt.Fprintln(w, name)
		}
		return err
	})
	if err := errors.Join(err, flush()); err != nil {
		fmt.Fprintln(os.Stderr, "grep:", err)
		return status(2)
	}
	if !found {
		return status(1)
	}
	return nil
}

// compile makes one expression of grep's patterns. Basic expressions differ
// from Go's in which characters want a backslash.
func compile(o options, patterns []string) (*regexp.Regexp, error) {
	var all []string
	for _, p := range patterns {
		for line := range strings.SplitSeq(p, "\n") {
			switch {
			case o.has('F'):
				line = regexp.QuoteMeta(line)
			case !o.has('E'):
				line = basic(line)
			}
			all = append(all, "(?:"+line+")")
		}
	}
	expr := strings.Join(all, "|")
	if o.has('w') {
		expr = `\b(?:` + expr + `)\b`
	}
	if o.has('i') {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, usage("%v", err)
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

func cut(args []string) error {
	o, rest, err := getopt(args, "d:f:c:b:s", map[string]byte{"delimiter": 'd', "fields": 'f', "characters": 'c'})
	if err != nil {
		return err
	}
	list := cmp.Or(o.last('f', ""), o.last('c', ""), o.last('b', ""))
	picked, err := ranges(list)
	if err != nil {
		return err
	}
	sep := o.last('d', "\t")
	if !o.has('f') {
		sep = ""
	}
	w, flush := flushed()
	err = inputs(rest, func(_ string, r io.Reader) error {
		return eachLine(r, func(line string) bool {
			if sep != "" && !strings.Contains(line, sep) {
				if !o.has('s') {
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
			return nil, usage("%q is no list of fields", list)
		}
		spans = append(spans, s)
	}
	return func(n int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return n >= s.from && n <= s.to })
	}, nil
}

func tee(args []string) error {
	o, rest, err := getopt(args, "ai", nil)
	if err != nil {
		return err
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if o.has('a') {
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

func seq(args []string) error {
	first, step, last := "1", "1", ""
	switch len(args) {
	case 1:
		last = args[0]
	case 2:
		first, last = args[0], args[1]
	case 3:
		first, step, last = args[0], args[1], args[2]
	default:
		return usage("usage: seq [FIRST [STEP]] LAST")
	}
	var n [3]int64
	for i, s := range []string{first, step, last} {
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return usage("%q is no number", s)
		}
	}
	if n[1] == 0 {
		return usage("the step is 0")
	}
	w, flush := flushed()
	for i := n[0]; n[1] > 0 && i <= n[2] || n[1] < 0 && i >= n[2]; i += n[1] {
		_, _ = w.WriteString(strconv.FormatInt(i, 10) + "\n")
	}
	return flush()
}

func yes(args []string) error {
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

func sum(name string) command {
	return func(args []string) error {
		o, rest, err := getopt(args, "cb", map[string]byte{"check": 'c'})
		if err != nil {
			return err
		}
		digest := func(r io.Reader) (string, error) {
			h := map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}[name]()
			_, err := io.Copy(h, r)
			return hex.EncodeToString(h.Sum(nil)), err
		}
		return inputs(rest, func(name string, r io.Reader) error {
			if o.has('c') {
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
	err := eachLine(r, func(line string) bool {
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
			errs = append(errs, status(1))
		}
		return true
	})
	return errors.Join(append(errs, err)...)
}
