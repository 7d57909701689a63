package sdbus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bus is a stand-in for a bus with systemd behind it.
type bus struct {
	t       *testing.T
	calls   []string
	answers map[string]func(*message) []byte
	serial  uint32
}

// reply is a method return.
func (b *bus) reply(to uint32, signature string, write func(*encoder)) []byte {
	return b.message(methodReturn, to, signature, "", write)
}

func (b *bus) message(kind byte, to uint32, signature, member string, write func(*encoder)) []byte {
	body := &encoder{}
	if write != nil {
		write(body)
	}
	b.serial++
	e := &encoder{b: []byte{'l', kind, 0, 1}}
	e.u32(uint32(len(body.b)))
	e.u32(b.serial)
	e.array(8, func() {
		if to != 0 {
			e.align(8)
			e.b = append(e.b, 5)
			e.signature("u")
			e.u32(to)
		}
		for _, f := range []struct {
			code byte
			s    string
		}{{3, member}, {8, signature}} {
			switch {
			case f.s == "":
			case f.code == 8:
				e.align(8)
				e.b = append(e.b, 8)
				e.signature("g")
				e.signature(f.s)
			default:
				code := f.code
				if kind == methodError {
					code = 4
				}
				e.align(8)
				e.b = append(e.b, code)
				e.signature("s")
				e.str(f.s)
			}
		}
	})
	e.align(8)
	return append(e.b, body.b...)
}

// serve answers one connection.
func (b *bus) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	if zero, _ := r.ReadByte(); zero != 0 {
		b.t.Errorf("the first byte is %d", zero)
	}
	line, _ := r.ReadString('\n')
	if !strings.HasPrefix(line, "AUTH EXTERNAL ") {
		b.t.Errorf("got %q", line)
	}
	_, _ = io.WriteString(c, "OK 0123\r\n")
	if line, _ = r.ReadString('\n'); line != "BEGIN\r\n" {
		b.t.Errorf("got %q", line)
	}
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		n, err := headerLength(head)
		if err != nil {
			b.t.Error(err)
			return
		}
		all := make([]byte, n)
		_, _ = io.ReadFull(r, all[copy(all, head):])
		m, err := parse(all)
		if err != nil {
			b.t.Error(err)
			return
		}
		m.reply = binary.LittleEndian.Uint32(all[8:])
		b.calls = append(b.calls, m.member)
		answer := b.answers[m.member]
		if answer == nil {
			_, _ = c.Write(b.reply(m.reply, "", nil))
			continue
		}
		_, _ = c.Write(answer(m))
	}
}

// job answers with a job, and says how it ended even before: the answer may
// come late.
func (b *bus) job(m *message, result string) []byte {
	removed := b.message(signal, 0, "uoss", "JobRemoved", func(e *encoder) {
		e.u32(7)
		e.str("/job/7")
		e.str("a-b.scope")
		e.str(result)
	})
	return append(removed, b.reply(m.reply, "o", func(e *encoder) { e.str("/job/7") })...)
}

// start connects to a new stand-in.
func (b *bus) start() *Conn {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			b.serve(c)
		}
	}()
	b.t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	c, err := Dial(false)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		c.Close()
		_ = l.Close()
		<-done
	})
	return c
}

func TestStart(t *testing.T) {
	b := &bus{t: t}
	var got []string
	exists := true
	b.answers = map[string]func(*message) []byte{
		"StartTransientUnit": func(m *message) []byte {
			if exists {
				exists = false
				return b.message(methodError, m.reply, "s", unitExists, func(e *encoder) { e.str("it is there") })
			}
			got = append(got, m.signature, m.body.str(), m.body.str())
			m.body.u32()
			m.body.take(8, 0)
			for range 3 {
				m.body.take(8, 0)
				got = append(got, m.body.str(), m.body.signature())
				switch got[len(got)-1] {
				case "b":
					m.body.u32()
				case "t":
					m.body.take(8, 8)
				case "au":
					m.body.u32()
					m.body.u32()
				}
			}
			if m.body.bad {
				t.Error("the body is short")
			}
			return b.job(m, "done")
		},
	}
	c := b.start()
	err := c.Start("a-b.scope", []Property{{"Delegate", true}, {"TasksMax", uint64(20)}, {"PIDs", []uint32{7}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"ssa(sv)a(sa(sv))", "a-b.scope", "replace", "Delegate", "b", "TasksMax", "t", "PIDs", "au"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	calls := []string{"Hello", "AddMatch", "Subscribe", "StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"}
	if d := cmp.Diff(calls, b.calls); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestStartFails(t *testing.T) {
	b := &bus{t: t}
	b.answers = map[string]func(*message) []byte{"StartTransientUnit": func(m *message) []byte { return b.job(m, "failed") }}
	if err := b.start().Start("a-b.scope", nil); err == nil || !strings.Contains(err.Error(), `systemd says "failed"`) {
		t.Errorf("got %v", err)
	}
}

func TestStop(t *testing.T) {
	b := &bus{t: t}
	b.answers = map[string]func(*message) []byte{"StopUnit": func(m *message) []byte {
		return b.message(methodError, m.reply, "s", "org.freedesktop.systemd1.NoSuchUnit", func(e *encoder) { e.str("no") })
	}}
	if err := b.start().Stop("a-b.scope"); err != nil {
		t.Errorf("a unit that is gone: %v", err)
	}
}

func TestProperty(t *testing.T) {
	b := &bus{t: t}
	b.answers = map[string]func(*message) []byte{"Get": func(m *message) []byte {
		return b.reply(m.reply, "v", func(e *encoder) { _ = e.variant("252.38") })
	}}
	if v, err := b.start().Property("Version"); v != "252.38" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
}

func TestBadProperty(t *testing.T) {
	b := &bus{t: t}
	err := b.start().Set("a-b.scope", []Property{{"X", struct{}{}}})
	if err == nil || !strings.Contains(err.Error(), "property X") {
		t.Errorf("got %v", err)
	}
	if len(b.calls) != 1 {
		t.Errorf("calls %v", b.calls)
	}
}

func TestParseValue(t *testing.T) {
	for text, want := range map[string]any{
		"true": true, "7": int32(7), "-7": int32(-7), "uint64 18446744073709551615": uint64(1<<64 - 1), "'it\\'s'": "it's", `"a"`: "a",
		"1.5": 1.5, "['a', \"b\"]": []string{"a", "b"}, "[]": []string{}, "int64 5": int64(5), "uint32 5": uint32(5),
	} {
		got, err := ParseValue(text)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, d)
		}
	}
	for _, text := range []string{"", "x", "'", "'a' b", "[", "['a'", "['a' 'b']", "[1]", "byte 3", "uint32 -1", "99999999999", "inf"} {
		if v, err := ParseValue(text); err == nil {
			t.Errorf("%q is %v", text, v)
		}
	}
}

func TestMicroseconds(t *testing.T) {
	for _, v := range []any{int32(2), uint32(2), int64(2), uint64(2), 2.0} {
		if n, ok := Microseconds(v); n != 2_000_000 || !ok {
			t.Errorf("%T: %d, %v", v, n, ok)
		}
	}
	for _, v := range []any{int32(-1), uint64(1 << 63), "2"} {
		if n, ok := Microseconds(v); ok {
			t.Errorf("%v: %d", v, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	b := &bus{}
	f.Add(b.reply(1, "o", func(e *encoder) { e.str("/job/7") }))
	f.Add(b.message(methodError, 3, "s", "a.b", func(e *encoder) { e.str("text") }))
	f.Add((&call{to: "a", path: "/", iface: "b", member: "c"}).bytes(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Errorf("%v", err)
			}
			return
		}
		_ = m.body.signature()
		_ = m.body.str()
		_ = m.body.u32()
	})
}
