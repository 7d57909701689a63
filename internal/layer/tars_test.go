package layer

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
)

// rawEntry is a tar entry that is written as it stands, with no regard for what
// makes sense: archive/tar's writer refuses what tests need.
type rawEntry struct {
	kind    byte // 0: a regular file
	name    string
	link    string
	mode    int64 // 0: 0644
	uid     int64
	major   int64
	minor   int64
	mtime   int64
	content string
	pax     map[string]string
	size    string // in place of the content's, as the field's text
	noPAX   bool   // a long name is cut off
}

// rawTar makes a tar with an end.
func rawTar(entries ...rawEntry) string {
	var b bytes.Buffer
	for _, e := range entries {
		e.append(&b)
	}
	return b.String() + strings.Repeat("\x00", 1024)
}

func (e rawEntry) append(b *bytes.Buffer) {
	pax := map[string]string{}
	maps.Copy(pax, e.pax)
	if _, ok := pax["path"]; !ok && len(e.name) > 100 && !e.noPAX {
		pax["path"] = e.name
	}
	if _, ok := pax["linkpath"]; !ok && len(e.link) > 100 {
		pax["linkpath"] = e.link
	}
	if len(pax) > 0 {
		block(b, rawEntry{kind: 'x', name: "pax", content: paxRecords(pax)})
	}
	block(b, e)
}

func paxRecords(m map[string]string) string {
	var b strings.Builder
	for k, v := range m {
		rest := " " + k + "=" + v + "\n"
		n := len(rest)
		for len(strconv.Itoa(n))+len(rest) != n {
			n = len(strconv.Itoa(n)) + len(rest)
		}
		b.WriteString(strconv.Itoa(n) + rest)
	}
	return b.String()
}

// block writes one header block with its content.
func block(b *bytes.Buffer, e rawEntry) {
	h := make([]byte, 512)
	octal := func(at, n int, v int64) {
		if v < 0 || v >= 1<<(3*(n-1)) {
			for i := n - 1; i >= 0; i-- { // base 256
				h[at+i] = byte(v)
				v >>= 8
			}
			h[at] |= 0x80
			return
		}
		copy(h[at:], fmt.Sprintf("%0*o\x00", n-1, v))
	}
	if e.kind == 0 {
		e.kind = '0'
	}
	if e.mode == 0 {
		e.mode = 0o644
	}
	copy(h[:100], e.name)
	octal(100, 8, e.mode)
	octal(108, 8, e.uid)
	octal(116, 8, e.uid)
	octal(124, 12, int64(len(e.content)))
	if e.size != "" {
		copy(h[124:136], e.size+"\x00")
	}
	octal(136, 12, e.mtime)
	h[156] = e.kind
	copy(h[157:257], e.link)
	copy(h[257:], "ustar\x0000")
	octal(329, 8, e.major)
	octal(337, 8, e.minor)
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	b.Write(h)
	b.WriteString(e.content)
	b.Write(make([]byte, (512-len(e.content)%512)%512))
}

// memory is a File without a disk.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if need := int(at) + len(p); need > len(m.b) {
		if need > cap(m.b) {
			m.b = append(make([]byte, 0, 2*need), m.b...)
		}
		m.b = m.b[:need]
	}
	return copy(m.b[at:], p), nil
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, at) }

var _ io.ReaderAt = (*memory)(nil)
