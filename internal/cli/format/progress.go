package format

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// Progress shows the messages of a pull or a load. On a terminal each layer has
// a line that is redrawn; a layer that is done leaves the lines that move and
// stays above them, so that an image of a hundred layers fits a small window.
// Elsewhere each change of state is a line of its own, without numbers.
type Progress struct {
	w     io.Writer
	width int // columns of the terminal; 0 is no terminal
	now   func() time.Time

	bars  []*bar
	known map[string]*bar
	drawn int       // lines that the last redraw left below
	last  time.Time // of the last redraw
}

// bar is the line of one layer.
type bar struct {
	id, status     string
	current, total int64
	from           int64 // bytes at since: what the speed is measured from
	since          time.Time
}

// How often to redraw, and how many lines move at most.
const (
	redrawEvery = 50 * time.Millisecond
	maxMoving   = 12
	barWidth    = 30
)

// NewProgress returns a progress on w. A width of 0 says that w is no terminal.
func NewProgress(w io.Writer, width int) *Progress {
	return &Progress{w: w, width: width, now: time.Now, known: map[string]*bar{}}
}

// Message shows a message.
func (p *Progress) Message(m jsonstream.Message) {
	switch {
	case m.Stream != "":
		p.line(strings.TrimRight(m.Stream, "\n"))
	case m.Status == "":
	case m.ID == "":
		p.line(m.Status)
	case strings.HasPrefix(m.Status, "Pulling from"): // its ID is a tag, and no layer
		p.line(m.ID + ": " + m.Status)
	default:
		p.update(m)
	}
}

func (p *Progress) update(m jsonstream.Message) {
	b := p.known[m.ID]
	if b == nil {
		b = &bar{id: m.ID}
		p.known[m.ID] = b
		p.bars = append(p.bars, b)
	}
	changed := b.status != m.Status
	if changed {
		b.status, b.current, b.total, b.from, b.since = m.Status, 0, 0, 0, p.now()
		if m.Progress != nil {
			b.from = m.Progress.Current
		}
	}
	if m.Progress != nil {
		b.current, b.total = m.Progress.Current, m.Progress.Total
	}
	if p.width == 0 {
		if changed {
			fmt.Fprintf(p.w, "%s: %s\n", b.id, b.status)
		}
		return
	}
	if changed && finished(m.Status) {
		p.retire(b)
		return
	}
	if changed || p.now().Sub(p.last) >= redrawEvery {
		p.draw("")
	}
}

// finished reports whether a status is a layer's last. The words are Docker's.
func finished(status string) bool {
	switch status {
	case "Pull complete", "Already exists", "Download complete, already exists", "Loaded", "Layer already exists", "Pushed":
		return true
	}
	return strings.HasPrefix(status, "Mounted from ")
}

// retire takes a layer out of the lines that move.
func (p *Progress) retire(done *bar) {
	left := p.bars[:0]
	for _, b := range p.bars {
		if b != done {
			left = append(left, b)
		}
	}
	p.bars = left
	p.draw(done.id + ": " + done.status)
}

// line writes a line that stays.
func (p *Progress) line(text string) {
	if p.width == 0 {
		fmt.Fprintln(p.w, text)
		return
	}
	p.draw(text)
}

// Close leaves the last state on the screen.
func (p *Progress) Close() {
	if p.width > 0 && len(p.bars) > 0 {
		p.draw("")
	}
}

// draw writes a line that stays, if there is one, and the lines that move below
// it, over those of the last time. It is one write: a terminal shows no halves.
func (p *Progress) draw(above string) {
	p.last = p.now()
	var s strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", p.drawn)
	}
	if above != "" {
		s.WriteString("\r\x1b[K" + above + "\n")
	}
	lines := 0
	for _, b := range p.bars {
		if lines == maxMoving {
			fmt.Fprintf(&s, "\r\x1b[K… and %d more\n", len(p.bars)-lines)
			lines++
			break
		}
		s.WriteString("\r\x1b[K" + Ellipsis(b.text(p.width, p.last), p.width-1) + "\n")
		lines++
	}
	s.WriteString("\x1b[J") // lines that moved up leave some below
	p.drawn = lines
	_, _ = io.WriteString(p.w, s.String())
}

// text is a layer's line: a bar, bytes and speed as far as they are known and
// there is room.
func (b *bar) text(width int, now time.Time) string {
	head := b.id + ": " + b.status
	if b.current <= 0 {
		return head
	}
	amount := Size(b.current)
	if b.total > 0 {
		amount += "/" + Size(b.total)
	}
	if d := now.Sub(b.since); d >= 500*time.Millisecond && b.current > b.from {
		amount += "  " + Size(int64(float64(b.current-b.from)/d.Seconds())) + "/s"
	}
	if b.total <= 0 || width < len(head)+barWidth+len(amount)+8 {
		return head + "  " + amount
	}
	full := int(min(b.current, b.total) * barWidth / b.total)
	arrow := ""
	if full < barWidth {
		arrow = ">"
	}
	return fmt.Sprintf("%-*s  [%s%s%s]  %s", headWidth, head,
		strings.Repeat("=", full), arrow, strings.Repeat(" ", barWidth-full-len(arrow)), amount)
}

// headWidth aligns the bars: twelve digits of a layer and the longest word for
// what happens to it.
const headWidth = len("0123456789ab: Verifying Checksum")
