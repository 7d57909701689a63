package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Version 1 as it was when it was frozen. Should this test fail, old shims do
// not understand the change: add, never alter.
func TestFrozen(t *testing.T) {
	var f Fields
	f.AddString(TagExec, "ab")
	f.AddUint(TagSignal, 15)
	f.AddBytes(TagBuffered, nil)
	got, err := Message{Kind: Signal, Request: 7, Fields: f}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		0, 0, 0, 33, 3, 0, 0, 0, 7,
		0, 5, 0, 0, 0, 2, 'a', 'b',
		0, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 15,
		0, 12, 0, 0, 0, 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	kinds := []Kind{Create, Start, Signal, Resize, Attach, Exec, ExecWait, State, CloseStdin, OK, Failed, Hello, Exited, ExecExited}
	if diff := cmp.Diff([]Kind{1, 2, 3, 4, 5, 6, 7, 8, 9, 64, 65, 128, 129, 130}, kinds); diff != "" {
		t.Error(diff)
	}
	if FlagStdin != 1 || FlagStdout != 2 || FlagStderr != 4 || FlagMux != 8 || FlagFromLog != 16 || FlagTerminal != 32 {
		t.Error("a flag has changed")
	}
	tags := []Tag{
		TagVersion, TagPID, TagError, TagClass, TagExec, TagSignal, TagBy, TagWidth, TagHeight, TagFlags, TagKeys, TagBuffered, TagFiles,
		TagAttachment, TagExit, TagStatus, TagStartedAt, TagDropped, TagClients, TagCode, TagOOM, TagExitedAt, TagPeak, TagUnknown, TagHint,
	}
	for i, tag := range tags {
		if int(tag) != i+1 {
			t.Errorf("tag %d has become %d", i+1, tag)
		}
	}
}

func TestFields(t *testing.T) {
	var f Fields
	f.AddString(TagExec, "one")
	f.AddString(TagExec, "two")
	f.AddString(TagBy, "")
	f.AddUint(TagWidth, 0)
	f.AddUint(TagHeight, 1<<40)
	f.AddBytes(TagKeys, []byte{})
	if f.String(TagExec) != "one" || f.Uint(TagHeight) != 1<<40 || f.Uint(TagWidth) != 0 || f.Uint(TagExec) != 0 {
		t.Error("wrong values")
	}
	if f.Bytes(TagKeys) == nil || f.Bytes(TagBy) != nil {
		t.Error("an empty value and none are not told apart")
	}
	var tags []Tag
	for tag := range f.All {
		tags = append(tags, tag)
	}
	if diff := cmp.Diff([]Tag{TagExec, TagExec, TagHeight, TagKeys}, tags); diff != "" {
		t.Error(diff)
	}
}

func TestTooLarge(t *testing.T) {
	m := Message{Fields: make(Fields, MaxFrame)}
	if b, err := m.Append([]byte("x")); err == nil || string(b) != "x" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// decodeAll feeds b in pieces and returns the messages as frames again.
func decodeAll(b []byte, piece int) (out []byte, err error) {
	var d Decoder
	for len(b) > 0 {
		n := min(piece, len(b))
		d.Feed(b[:n])
		b = b[n:]
		for {
			m, ok, err := d.Next()
			if err != nil {
				return out, err
			}
			if !ok {
				break
			}
			if out, err = m.Append(out); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func FuzzDecoder(f *testing.F) {
	var fields Fields
	fields.AddString(TagError, "text")
	fields.AddUint(TagPID, 1)
	b, err := Message{Kind: OK, Request: 3, Fields: fields}.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(b, b...), 5)
	f.Add(b[:len(b)-1], 1)
	f.Add([]byte{0, 0, 0, 4, 1, 1, 1, 1}, 3)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 2)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		whole, err := decodeAll(b, len(b)+1)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("error %v", err)
		}
		if !bytes.HasPrefix(b, whole) {
			t.Error("decoding and encoding changes messages")
		}
		pieces, perr := decodeAll(b, max(1, piece))
		if !bytes.Equal(whole, pieces) || !errors.Is(perr, err) {
			t.Errorf("in pieces of %d: %d bytes, %v; at once: %d bytes, %v", piece, len(pieces), perr, len(whole), err)
		}
	})
}
