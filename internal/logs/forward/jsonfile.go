package forward

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"lade/internal/logs"
)

// jsonFile writes lines as Docker's json-file driver does, which log shippers
// read: one object a line, in a file that is rotated to FILE.1, FILE.2, ...
type jsonFile struct {
	c       Config
	attrs   []byte // in JSON; nil for none
	f       *os.File
	size    int64
	next    time.Time // when to try to open again
	dropped uint64
	buf     []byte
}

func newJSONFile(c Config) *jsonFile {
	j := &jsonFile{c: c}
	if len(c.Attrs) > 0 {
		j.attrs, _ = json.Marshal(c.Attrs) // a map of strings
	}
	j.open(time.Now())
	return j
}

func (j *jsonFile) open(now time.Time) bool {
	if j.f != nil {
		return true
	}
	if now.Before(j.next) {
		return false
	}
	j.next = now.Add(retryDelay)
	f, err := os.OpenFile(j.c.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return false
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return false
	}
	j.f, j.size = f, st.Size()
	return true
}

// Line implements Driver.
func (j *jsonFile) Line(e logs.Entry) {
	if !j.open(e.Time) {
		j.dropped++
		return
	}
	j.buf = j.format(j.buf[:0], e)
	n, err := j.f.Write(j.buf)
	if err != nil {
		j.dropped++
		// Half a line would make the next one unreadable, too.
		if n > 0 && j.f.Truncate(j.size) != nil {
			j.size += int64(n)
		}
		return
	}
	j.size += int64(n)
	if j.c.MaxBytes > 0 && j.size >= j.c.MaxBytes {
		j.rotate()
	}
}

// format appends a line in the order of Docker's fields.
func (j *jsonFile) format(b []byte, e logs.Entry) []byte {
	text := string(e.Data)
	if !e.Partial {
		text += "\n"
	}
	quoted, _ := json.Marshal(text) // what is no UTF-8 becomes U+FFFD, as with Docker
	b = append(append(b, `{"log":`...), quoted...)
	if e.Stream == logs.Stderr {
		b = append(b, `,"stream":"stderr"`...)
	} else {
		b = append(b, `,"stream":"stdout"`...)
	}
	if j.attrs != nil {
		b = append(append(b, `,"attrs":`...), j.attrs...)
	}
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

// rotate begins a new file. The oldest goes.
func (j *jsonFile) rotate() {
	_ = j.f.Close()
	j.f, j.next = nil, time.Time{}
	if j.c.MaxFiles < 2 {
		_ = os.Truncate(j.c.Path, 0)
		return
	}
	for i := j.c.MaxFiles - 1; i > 1; i-- {
		_ = os.Rename(fmt.Sprintf("%s.%d", j.c.Path, i-1), fmt.Sprintf("%s.%d", j.c.Path, i))
	}
	_ = os.Rename(j.c.Path, j.c.Path+".1")
}

// Dropped implements Driver.
func (j *jsonFile) Dropped() uint64 { return j.dropped }

// Close implements Driver.
func (j *jsonFile) Close() {
	if j.f != nil {
		_ = j.f.Close()
	}
}
