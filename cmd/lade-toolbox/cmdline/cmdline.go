// Package cmdline is what the commands of the toolbox share: options, operands,
// inputs, and the numbers that people type.
package cmdline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Command is one program of the box. Its arguments begin after its name.
type Command func(args []string) error

// StatusError is an error that is nothing but an exit code.
type StatusError int

// Error implements error.
func (s StatusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// UsageError is an error of whoever typed the command.
type UsageError struct{ string }

// Error implements error.
func (u UsageError) Error() string { return u.string }

// Usage returns an error of whoever typed the command.
func Usage(format string, args ...any) error { return UsageError{fmt.Sprintf(format, args...)} }

// Options are parsed flags: the values of each, in order; "" for one without.
type Options map[byte][]string

// Has reports whether the option was given.
func (o Options) Has(c byte) bool { return len(o[c]) > 0 }

// Last returns the last value of an option, or def.
func (o Options) Last(c byte, def string) string {
	if v := o[c]; len(v) > 0 {
		return v[len(v)-1]
	}
	return def
}

// Getopt parses short options as getopt does: in spec, a colon follows those
// that take a value. Long names are given as the letter they stand for.
func Getopt(args []string, spec string, long map[string]byte) (Options, []string, error) {
	o := Options{}
	takes := func(c byte) (known, value bool) {
		for i := range len(spec) {
			if spec[i] == c && c != ':' {
				return true, i+1 < len(spec) && spec[i+1] == ':'
			}
		}
		return false, false
	}
	var rest []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return o, append(rest, args[i+1:]...), nil
		case len(a) > 2 && a[:2] == "--":
			name, value, has := cutByte(a[2:], '=')
			c, ok := long[name]
			if !ok {
				return nil, nil, Usage("unknown option %s", a)
			}
			if _, wants := takes(c); wants && !has {
				if i++; i == len(args) {
					return nil, nil, Usage("option %s needs a value", a)
				}
				value = args[i]
			}
			o[c] = append(o[c], value)
		case len(a) > 1 && a[0] == '-':
			n, err := o.short(a[1:], args[i+1:], takes)
			if err != nil {
				return nil, nil, err
			}
			i += n
		default:
			rest = append(rest, a)
		}
	}
	return o, rest, nil
}

// short parses a cluster of short options, and returns how many of the
// following arguments it used.
func (o Options) short(cluster string, next []string, takes func(byte) (known, value bool)) (int, error) {
	for j := range len(cluster) {
		c := cluster[j]
		known, value := takes(c)
		switch {
		case !known:
			return 0, Usage("unknown option -%c", c)
		case !value:
			o[c] = append(o[c], "")
		case j+1 < len(cluster):
			o[c] = append(o[c], cluster[j+1:])
			return 0, nil
		case len(next) == 0:
			return 0, Usage("option -%c needs a value", c)
		default:
			o[c] = append(o[c], next[0])
			return 1, nil
		}
	}
	return 0, nil
}

func cutByte(s string, c byte) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == c {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// Inputs calls fn with each named file, or stdin where none is named.
func Inputs(names []string, fn func(name string, r io.Reader) error) error {
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

// EachLine calls fn with each line, without its end, until fn returns false.
func EachLine(r io.Reader, fn func(line string) bool) error {
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

// Flushed returns a buffered stdout, and what to call at the end.
func Flushed() (*bufio.Writer, func() error) {
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	return w, w.Flush
}

// Each applies fn to every operand, and goes on after an error.
func Each(operands []string, fn func(string) error) error {
	if len(operands) == 0 {
		return Usage("missing operand")
	}
	var errs []error
	for _, o := range operands {
		errs = append(errs, fn(o))
	}
	return errors.Join(errs...)
}

// Need complains if there are fewer than n operands.
func Need(rest []string, n int) error {
	if len(rest) < n {
		return Usage("missing operand")
	}
	return nil
}

// Size reads a number of bytes with an optional unit.
func Size(s string) (int64, error) {
	shift := 0
	trimmed := strings.TrimSuffix(strings.TrimSuffix(s, "iB"), "B")
	if i := strings.IndexAny(trimmed, "kKMGT"); i >= 0 && i == len(trimmed)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGT", strings.ToUpper(trimmed)[i]))
		trimmed = trimmed[:i]
	}
	n, err := strconv.ParseInt(trimmed, 10, 64)
	if err != nil || n < 0 || n<<shift>>shift != n {
		return 0, Usage("%q is no size", s)
	}
	return n << shift, nil
}

// Human shows a number of bytes as people read it.
func Human(n int64) string {
	f, units := float64(n), "BKMGTP"
	for f >= 1024 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	if units[0] == 'B' {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.1f%c", f, units[0])
}

// Duration reads a time as sleep does: seconds, or with a unit.
func Duration(s string) (time.Duration, error) {
	if s == "inf" || s == "infinity" {
		return 1<<63 - 1, nil
	}
	unit := time.Second
	switch {
	case strings.HasSuffix(s, "s"):
		s = s[:len(s)-1]
	case strings.HasSuffix(s, "m"):
		s, unit = s[:len(s)-1], time.Minute
	case strings.HasSuffix(s, "h"):
		s, unit = s[:len(s)-1], time.Hour
	case strings.HasSuffix(s, "d"):
		s, unit = s[:len(s)-1], 24*time.Hour
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 {
		return 0, Usage("%q is no time", s)
	}
	return time.Duration(min(f*float64(unit), 1<<62)), nil
}

// Number reads the number that a text begins with.
func Number(s string) float64 {
	s = strings.TrimLeft(s, " \t")
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.' || i == 0 && s[i] == '-') {
		i++
	}
	f, _ := strconv.ParseFloat(s[:i], 64)
	return f
}
