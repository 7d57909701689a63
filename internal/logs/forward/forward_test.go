package forward

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lade/internal/logs"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 123456000, time.FixedZone("east", 3600))

func lines() []logs.Entry {
	return []logs.Entry{
		{Time: noon, Stream: logs.Stdout, Data: []byte("hello <world>")},
		{Time: noon, Stream: logs.Stderr, Data: []byte("half "), Partial: true},
		{Time: noon, Stream: logs.Stderr, Data: []byte("\xffend\x00")},
	}
}

func driver(t *testing.T, c Config) Driver {
	t.Helper()
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestJSONFile checks the text against what Docker's driver writes.
func TestJSONFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c-json.log")
	d := driver(t, Config{Driver: JSONFile, Path: path, Attrs: map[string]string{"env": "a \"b\""}})
	for _, e := range lines() {
		d.Line(e)
	}
	d.Close()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"log":"hello \u003cworld\u003e\n","stream":"stdout","attrs":{"env":"a \"b\""},"time":"2026-01-02T11:00:00.123456Z"}
{"log":"half ","stream":"stderr","attrs":{"env":"a \"b\""},"time":"2026-01-02T11:00:00.123456Z"}
{"log":"\ufffdend\u0000\n","stream":"stderr","attrs":{"env":"a \"b\""},"time":"2026-01-02T11:00:00.123456Z"}
`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for line := range strings.Lines(string(got)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s is no JSON", line)
		}
	}
}

// TestJSONFileRotates checks that no line is lost or cut in a rotation, and that
// no more is kept than was asked for.
func TestJSONFileRotates(t *testing.T) {
	dir := t.TempDir()
	c := Config{Driver: JSONFile, Path: filepath.Join(dir, "f"), MaxBytes: 1000, MaxFiles: 3}
	for range 3 { // begun again, it goes on
		d := driver(t, c)
		for range 20 {
			d.Line(lines()[0])
		}
		d.Close()
	}
	files, _ := filepath.Glob(dir + "/*")
	if len(files) != 3 {
		t.Errorf("files %q", files)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 1100 {
			t.Errorf("%s has %d bytes", f, len(text))
		}
		for line := range strings.Lines(string(text)) {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: %q", f, line)
			}
		}
	}
	one := driver(t, Config{Driver: JSONFile, Path: filepath.Join(dir, "one"), MaxBytes: 300})
	for range 20 {
		one.Line(lines()[0])
	}
	one.Close()
	if files, _ = filepath.Glob(dir + "/one*"); len(files) != 1 {
		t.Errorf("files %q, want one", files)
	}
}

// TestJSONFileWithout checks that a file that cannot be written is counted, and
// written once it can be.
func TestJSONFileWithout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	d := driver(t, Config{Driver: JSONFile, Path: dir + "/f"})
	e := lines()[0]
	d.Line(e)
	if d.Dropped() != 1 {
		t.Errorf("dropped %d", d.Dropped())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	e.Time = time.Now().Add(2 * retryDelay)
	d.Line(e)
	d.Close()
	if text, err := os.ReadFile(dir + "/f"); err != nil || bytes.Count(text, []byte("\n")) != 1 {
		t.Errorf("%q, %v", text, err)
	}
}

// datagrams listens on a Unix datagram socket.
func datagrams(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, path
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSyslogFormats(t *testing.T) {
	for _, tt := range []struct{ format, network, want string }{
		{"", "unixgram", "<27>Jan  2 12:00:00 my_tag[7]: hello <world>\n"},
		{"", "udp", "<27>2026-01-02T12:00:00+01:00 box my_tag[7]: hello <world>\n"},
		{"rfc3164", "unixgram", "<27>Jan  2 12:00:00 box my_tag[7]: hello <world>\n"},
		{"rfc5424", "udp", "<27>1 2026-01-02T12:00:00+01:00 box my_tag 7 my_tag - hello <world>\n"},
		{"rfc5424micro", "tcp", "75 <27>1 2026-01-02T12:00:00.123456+01:00 box my_tag 7 my_tag - hello <world>\n"},
	} {
		s := syslog{c: Config{Format: tt.format, Network: tt.network, Facility: 3, Hostname: "box", Tag: "my tag"}, pid: 7}
		e := lines()[0]
		e.Stream = logs.Stderr
		if got := string(s.format(e)); got != tt.want {
			t.Errorf("%s over %s: %q, want %q", tt.format, tt.network, got, tt.want)
		}
	}
}

// TestSyslog sends to a daemon that comes late, goes, and comes again.
func TestSyslog(t *testing.T) {
	c, path := datagrams(t)
	d := driver(t, Config{Driver: Syslog, Network: "unix", Address: path, Tag: "web", Facility: 16})
	d.Line(lines()[0])
	if got := receive(t, c); !strings.HasPrefix(got, "<134>Jan  2 12:00:00 web[") || !strings.HasSuffix(got, "]: hello <world>\n") {
		t.Errorf("message %q", got)
	}
	_ = c.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d.Line(lines()[0])
	if got := receive(t, c); got == "" || d.Dropped() != 0 {
		t.Errorf("message %q, dropped %d", got, d.Dropped())
	}
	// A daemon that does not read: the container goes on.
	for range 10000 {
		d.Line(lines()[0])
	}
	if d.Dropped() == 0 {
		t.Error("10,000 messages into a socket that nobody reads")
	}
	d.Close()
}

// TestSyslogStream checks that nothing is lost or mixed on a stream that takes
// less at once than it is given.
func TestSyslogStream(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := driver(t, Config{Driver: Syslog, Network: "tcp", Address: l.Addr().String(), Tag: "web", Facility: 3})
	const n = 20000
	counted := make(chan int)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(counted)
			return
		}
		defer c.Close()
		got := 0
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			if strings.HasSuffix(line, "]: hello <world>\n") {
				got++
			}
		}
		counted <- got
	}()
	for range n {
		d.Line(lines()[0])
	}
	d.Close()
	if got := <-counted; uint64(got)+d.Dropped() != n {
		t.Errorf("%d came, %d are said to be dropped, of %d", got, d.Dropped(), n)
	}
}

func TestNobodyListens(t *testing.T) {
	for _, c := range []Config{
		{Driver: Syslog, Network: "unixgram", Address: filepath.Join(t.TempDir(), "none")},
		{Driver: Syslog, Network: "tcp", Address: "127.0.0.1:1"},
		{Driver: Journald, Address: filepath.Join(t.TempDir(), "none")},
	} {
		d := driver(t, c)
		for range 10 {
			d.Line(lines()[0])
		}
		d.Close()
		if d.Dropped() != 10 {
			t.Errorf("%+v: dropped %d of 10", c, d.Dropped())
		}
	}
	for _, c := range []Config{{Driver: "smoke"}, {Driver: Syslog, Network: "pigeon"}, {Driver: Syslog, Network: "udp", Address: "name:514"}, {Driver: Syslog, Network: "unix", Address: strings.Repeat("x", 200)}} {
		if _, err := Open(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// TestJournal reads entries as journald's native protocol has them.
func TestJournal(t *testing.T) {
	c, path := datagrams(t)
	d := driver(t, Config{Driver: Journald, Address: path, Tag: "web", Fields: map[string]string{"CONTAINER_NAME": "web", "LABEL": "two\nlines"}})
	for _, e := range lines() {
		d.Line(e)
	}
	d.Close()
	for i, want := range []map[string]string{
		{"PRIORITY": "6", "MESSAGE": "hello <world>"},
		{"PRIORITY": "3", "MESSAGE": "half ", "CONTAINER_PARTIAL_MESSAGE": "true"},
		{"PRIORITY": "3", "MESSAGE": "\xffend\x00"},
	} {
		want["CONTAINER_NAME"], want["LABEL"], want["SYSLOG_IDENTIFIER"] = "web", "two\nlines", "web"
		want["SYSLOG_TIMESTAMP"] = "2026-01-02T12:00:00.123456+01:00"
		if diff := cmp.Diff(want, fields(t, receive(t, c))); diff != "" {
			t.Errorf("entry %d (-want +got):\n%s", i, diff)
		}
	}
}

func fields(t *testing.T, entry string) map[string]string {
	t.Helper()
	out := map[string]string{}
	r := bufio.NewReader(strings.NewReader(entry))
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return out
		}
		line = strings.TrimSuffix(line, "\n")
		if name, value, ok := strings.Cut(line, "="); ok {
			out[name] = value
			continue
		}
		var size [8]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, int(size[0])+1)
		if _, err := io.ReadFull(r, value); err != nil {
			t.Fatal(err)
		}
		out[line] = string(value[:len(value)-1])
	}
}
