package program

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Text returns the program for people, one step a line: number, who takes it
// (runtime or child), the call, what it yields, and why.
func (p *Program) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", p.Name)
	if p.began() != 0 {
		b.WriteString("# step, milliseconds since the first one, microseconds taken, call = what it came to\n")
	}
	n := 0
	p.section(&b, "runtime", p.Before, &n)
	p.section(&b, "runtime", []Step{p.Clone}, &n)
	p.section(&b, "runtime, beside the child", p.Beside, &n)
	p.section(&b, "child, before it leaves the runtime's image", p.Early, &n)
	p.section(&b, "child", p.Child, &n)
	for _, w := range p.Warnings {
		b.WriteString("# " + w + "\n")
	}
	return b.String()
}

func (p *Program) section(b *strings.Builder, who string, steps []Step, n *int) {
	if len(steps) == 0 {
		return
	}
	fmt.Fprintf(b, "%s:\n", who)
	l := lister{b: b, n: n, began: p.began()}
	l.list(steps, 0)
}

// began returns when the first step that was timed began, or 0.
func (p *Program) began() int64 {
	first := int64(0)
	for _, list := range [][]Step{p.Before, {p.Clone}, p.Beside, p.Early, p.Child} {
		for i := range list {
			if r := list[i].Result; r != nil && (first == 0 || r.Begin < first) {
				first = r.Begin
			}
		}
	}
	return first
}

// lister prints lists of steps.
type lister struct {
	b     *strings.Builder
	n     *int
	began int64
}

func (l *lister) list(steps []Step, depth int) {
	b := l.b
	for i := range steps {
		s := &steps[i]
		*l.n++
		fmt.Fprintf(b, "%4d  %s%s%s", *l.n, l.times(s), strings.Repeat("  ", depth), s.Text())
		if s.Result != nil {
			b.WriteString(s.Result.text(s))
		}
		if s.Why != "" {
			b.WriteString("  # " + s.Why)
		}
		b.WriteByte('\n')
		if len(s.Then) > 0 {
			l.list(s.Then, depth+1)
		}
		if len(s.Else) > 0 {
			fmt.Fprintf(b, "      %selse\n", strings.Repeat("  ", depth))
			l.list(s.Else, depth+1)
		}
	}
}

// times returns when a step was taken, in a program that was.
func (l *lister) times(s *Step) string {
	switch {
	case l.began == 0:
		return ""
	case s.Result == nil:
		return strings.Repeat(" ", 16) + "-  "
	}
	return fmt.Sprintf("%8.3f %7.1f  ", float64(s.Result.Begin-l.began)/1e6, float64(s.Result.Nanoseconds)/1e3)
}

// text returns what a step came to, where that says anything.
func (r *Result) text(s *Step) string {
	switch {
	case r.Errno != 0:
		return " -> " + errnos([]syscall.Errno{r.Errno})[0]
	case s.Yield != "" || r.Value != 0:
		return " -> " + strconv.FormatInt(r.Value, 10)
	}
	return ""
}

// Text returns the step as a call: name(arguments) = slot [tolerated errors].
func (s *Step) Text() string {
	var b strings.Builder
	b.WriteString(s.Call)
	b.WriteByte('(')
	for i := range s.Args {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.Args[i].Text())
	}
	b.WriteByte(')')
	if s.Yield != "" {
		b.WriteString(" = " + string(s.Yield))
	}
	if len(s.Tolerate) > 0 {
		b.WriteString(" [or " + strings.Join(errnos(s.Tolerate), ", ") + "]")
	}
	return b.String()
}

func errnos(list []syscall.Errno) []string {
	out := make([]string, len(list))
	for i, e := range list {
		if out[i] = unix.ErrnoName(e); out[i] == "" {
			out[i] = strconv.Itoa(int(e))
		}
	}
	return out
}

// Text returns the argument for people.
func (a *Arg) Text() string {
	switch a.Kind {
	case KindFlags:
		names, _ := a.more.(*FlagNames)
		return flagText(a.N, *names)
	case KindString:
		return strconv.Quote(short(a.S))
	case KindFD:
		return a.S
	case KindBytes:
		if d, _ := a.more.(*data); d.text != nil {
			return "{" + d.text() + "}"
		}
		return "{" + a.S + "}"
	case KindBuffer, KindSlotAddress:
		return "&" + a.S
	case KindField:
		return a.S + "[" + strconv.FormatUint(a.N, 10) + "]"
	case KindStrings:
		q := make([]string, len(a.List()))
		for i, s := range a.List() {
			q[i] = strconv.Quote(short(s))
		}
		return "[" + strings.Join(q, ", ") + "]"
	case KindFDMsg:
		return fmt.Sprintf("{SCM_RIGHTS %s, %q}", a.S, a.Data())
	case KindFilter:
		return fmt.Sprintf("{%d instructions}", len(a.Data())/8)
	default:
		switch {
		case a.S == "o":
			return "0" + strconv.FormatUint(a.N, 8)
		case a.S != "":
			return a.S
		case a.N > 1<<63:
			return strconv.FormatInt(int64(a.N), 10)
		case a.N > 1<<16:
			return "0x" + strconv.FormatUint(a.N, 16)
		}
		return strconv.FormatUint(a.N, 10)
	}
}

// short keeps a long string readable; the executor has the whole one.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

func flagText(n uint64, names FlagNames) string {
	if n == 0 {
		return "0"
	}
	var out []string
	for _, f := range names {
		if f.Bits != 0 && n&f.Bits == f.Bits {
			out = append(out, f.Name)
			n &^= f.Bits
		}
	}
	if n != 0 {
		out = append(out, "0x"+strconv.FormatUint(n, 16))
	}
	return strings.Join(out, "|")
}

// MarshalJSON gives a step as its call, its arguments' text, and the rest as
// it stands.
func (s Step) MarshalJSON() ([]byte, error) {
	args := make([]string, len(s.Args))
	for i := range s.Args {
		args[i] = s.Args[i].Text()
	}
	return json.Marshal(struct {
		Call     string   `json:"call"`
		Args     []string `json:"args"`
		Why      string   `json:"why,omitempty"`
		Tolerate []string `json:"tolerate,omitempty"`
		Yield    Slot     `json:"yield,omitempty"`
		Result   *Result  `json:"result,omitempty"`
		Then     []Step   `json:"then,omitempty"`
		Else     []Step   `json:"else,omitempty"`
	}{s.Call, args, s.Why, errnos(s.Tolerate), s.Yield, s.Result, s.Then, s.Else})
}

// MarshalJSON gives a result with the name of its errno.
func (r *Result) MarshalJSON() ([]byte, error) {
	out := struct {
		Begin       int64  `json:"begin"`
		Nanoseconds int64  `json:"nanoseconds"`
		Value       int64  `json:"value"`
		Errno       string `json:"errno,omitempty"`
	}{r.Begin, r.Nanoseconds, r.Value, ""}
	if r.Errno != 0 {
		out.Errno = errnos([]syscall.Errno{r.Errno})[0]
	}
	return json.Marshal(out)
}
