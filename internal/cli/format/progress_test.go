package format

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"
)

var pull = []jsonstream.Message{
	{ID: "12", Status: "Pulling from library/debian", Progress: &jsonstream.Progress{}},
	{ID: "aaaaaaaaaaaa", Status: "Pulling fs layer"},
	{ID: "bbbbbbbbbbbb", Status: "Pulling fs layer"},
	{ID: "cccccccccccc", Status: "Already exists"},
	{ID: "aaaaaaaaaaaa", Status: "Downloading", Progress: &jsonstream.Progress{Current: 10_000_000, Total: 40_000_000}},
	{ID: "aaaaaaaaaaaa", Status: "Downloading", Progress: &jsonstream.Progress{Current: 30_000_000, Total: 40_000_000}},
	{ID: "bbbbbbbbbbbb", Status: "Downloading", Progress: &jsonstream.Progress{Current: 1_000}},
	{ID: "aaaaaaaaaaaa", Status: "Pull complete"},
	{ID: "bbbbbbbbbbbb", Status: "Pull complete"},
	{Status: "Digest: sha256:1234"},
}

func TestProgressPlain(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b, 0)
	for _, m := range pull {
		p.Message(m)
	}
	p.Close()
	want := `12: Pulling from library/debian
aaaaaaaaaaaa: Pulling fs layer
bbbbbbbbbbbb: Pulling fs layer
cccccccccccc: Already exists
aaaaaaaaaaaa: Downloading
bbbbbbbbbbbb: Downloading
aaaaaaaaaaaa: Pull complete
bbbbbbbbbbbb: Pull complete
Digest: sha256:1234
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// screen is as much of a terminal as the progress needs: what is on it after
// all that was written.
type screen struct {
	lines []string
	row   int
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		for s.row >= len(s.lines) {
			s.lines = append(s.lines, "")
		}
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			s.lines[s.row], text = "", text[3:]
		case strings.HasPrefix(text, "\x1b[J"):
			s.lines, text = s.lines[:s.row], text[3:]
		case strings.HasPrefix(text, "\x1b["):
			n, i := 0, 2
			for ; text[i] != 'A'; i++ {
				n = n*10 + int(text[i]-'0')
			}
			s.row, text = s.row-n, text[i+1:]
		case text[0] == '\n':
			s.row, text = s.row+1, text[1:]
		case text[0] == '\r':
			text = text[1:]
		default:
			end := strings.IndexAny(text, "\n\r\x1b")
			s.lines[s.row], text = s.lines[s.row]+text[:end], text[end:]
		}
	}
	return len(p), nil
}

func TestProgressOnTerminal(t *testing.T) {
	s := &screen{}
	p := NewProgress(s, 100)
	now := time.Unix(0, 0)
	p.now = func() time.Time {
		now = now.Add(time.Second / 4)
		return now
	}
	for i, m := range pull {
		p.Message(m)
		if i == 6 {
			want := []string{
				"12: Pulling from library/debian",
				"cccccccccccc: Already exists",
				"aaaaaaaaaaaa: Downloading         [======================>       ]  30MB/40MB  16MB/s",
				"bbbbbbbbbbbb: Downloading  1kB",
			}
			if diff := cmp.Diff(want, s.lines); diff != "" {
				t.Errorf("half-way (-want +got):\n%s", diff)
			}
		}
	}
	p.Close()
	want := []string{
		"12: Pulling from library/debian", "cccccccccccc: Already exists", "aaaaaaaaaaaa: Pull complete",
		"bbbbbbbbbbbb: Pull complete", "Digest: sha256:1234",
	}
	if diff := cmp.Diff(want, s.lines); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
}

// TestProgressManyLayers: no line is wider than the terminal, and a hundred
// layers move on thirteen lines.
func TestProgressManyLayers(t *testing.T) {
	s := &screen{}
	p := NewProgress(s, 30)
	for i := range 100 {
		p.Message(jsonstream.Message{ID: strings.Repeat(string(rune('a'+i%26)), 10) + string(rune('0'+i/26)), Status: "Downloading a very long status"})
	}
	if len(s.lines) != maxMoving+1 || s.lines[maxMoving] != "… and 88 more" {
		t.Errorf("%d lines, the last is %q", len(s.lines), s.lines[len(s.lines)-1])
	}
	for _, l := range s.lines {
		if len([]rune(l)) >= 30 {
			t.Errorf("%q is too wide", l)
		}
	}
}
