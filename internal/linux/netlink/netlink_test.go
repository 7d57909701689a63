package netlink

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestWriter(t *testing.T) {
	var w Writer
	w.Raw(1, 2, 3, 4)
	w.String(1, "ab")
	w.Nest(2, func() { w.Uint8(3, 7) })
	w.Put(4, nil)
	type attr struct {
		kind  uint16
		value []byte
	}
	var got []attr
	for kind, v := range Attributes(w.Bytes()[4:]) {
		got = append(got, attr{kind, v})
	}
	want := []attr{{1, []byte("ab\x00")}, {2, []byte{5, 0, 3, 0, 7, 0, 0, 0}}, {4, []byte{}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(attr{})); diff != "" {
		t.Error(diff)
	}
	if s := CString([]byte("ab\x00c")); s != "ab" {
		t.Error(s)
	}
}

// TestErrors checks that an answer is matched with its request, and that the
// kernel's words come along.
func TestErrors(t *testing.T) {
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	link := make([]byte, unix.SizeofIfInfomsg)
	var named Writer
	named.Raw(link...)
	named.String(unix.IFLA_IFNAME, "nosuch0")
	var nameless Writer
	nameless.Raw(link...)
	for range 2 { // the socket is as before
		err := c.Do(
			Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_ACK, Data: named.Bytes(), What: "find nosuch0"},
			Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_ACK, Data: nameless.Bytes(), What: "find nobody"},
		)
		e, ok := errors.AsType[*Error](err)
		if !ok || !errors.Is(err, syscall.ENODEV) || err.Error() != "find nosuch0: no such device" || e.Text != "" {
			t.Errorf("%v", err)
		}
		n := 0
		if err := c.Ask(Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_DUMP, Data: link, What: "list"}, func(Message) error { n++; return nil }); err != nil || n == 0 {
			t.Errorf("%d links, %v", n, err)
		}
	}
	var badName Writer
	badName.Raw(link...)
	badName.String(unix.IFLA_IFNAME, "a name that is much too long for a link")
	err = c.Do(Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_ACK, Data: badName.Bytes(), What: "find"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Text == "" {
		t.Errorf("%v: want the kernel's words", err)
	}
	_ = c.Close()
	if err := c.Do(Message{Type: unix.RTM_GETLINK, Flags: unix.NLM_F_ACK, Data: link, What: "find"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// FuzzAttributes: whatever the bytes, what comes out lies within them.
func FuzzAttributes(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 2, 3, 4})
	f.Add([]byte{5, 0, 1, 0, 1})
	f.Add([]byte{0, 0, 1, 0})
	f.Add([]byte{255, 255, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for _, v := range Attributes(b) {
			n += 4 + len(v)
		}
		if n > len(b) {
			t.Errorf("%d bytes out of %d", n, len(b))
		}
		_ = errorOf(Message{Data: b, Flags: unix.NLM_F_ACK_TLVS})
		_ = errorOf(Message{Data: b, Flags: unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED})
	})
}
