package layer

import (
	"fmt"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

// TestLimits has each limit stop what it is for, and nothing else: the same tar
// passes when that one is just high enough.
func TestLimits(t *testing.T) {
	var many []rawEntry
	for i := range 99 { // with the directory they are in: 100
		many = append(many, rawEntry{name: fmt.Sprintf("d/%03d", i), content: strings.Repeat("x", 100)})
	}
	attributes := rawTar(rawEntry{name: "f", pax: map[string]string{paxXattr + "user.a": strings.Repeat("x", 1000)}})
	deep := rawTar(rawEntry{name: strings.Repeat("d/", 10) + "f"})
	text := rawTar(many...)
	tests := []struct {
		name      string
		tar       string
		low, high Limits
		err       string
	}{
		{"entries", text, Limits{Entries: 99}, Limits{Entries: 100}, "more than 99 entries"},
		{"stream", text, Limits{Bytes: int64(len(text)) - 1}, Limits{Bytes: int64(len(text))}, "longer than"},
		{"files", text[:len(text)-1024], Limits{Bytes: 99}, Limits{}, "longer than 99 bytes"},
		{"text", text, Limits{Text: 99*5 + 0}, Limits{Text: 99*5 + 1}, "take more than 495 bytes"},
		{"path", deep, Limits{Path: 20}, Limits{Path: 21}, "path of 21 bytes"},
		{"depth", deep, Limits{Depth: 9}, Limits{Depth: 10}, "more than 9 deep"},
		{"attributes", attributes, Limits{Xattrs: 1000}, Limits{Xattrs: 1100}, "attributes of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := writeImage(t, tt.tar, tt.low)
			if !errdefs.Is(err, errdefs.Exhausted) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("below the need: %v, want %q", err, tt.err)
			}
			if _, err := writeImage(t, tt.tar, tt.high); err != nil {
				t.Errorf("at the need: %v", err)
			}
		})
	}
	// Depth counts where a file really comes to lie, through links too.
	climb := []rawEntry{{kind: '5', name: "d"}, {kind: '2', name: "s", link: strings.Repeat("d/", 50)}}
	if _, err := writeImage(t, rawTar(append(climb, rawEntry{name: "s/f"})...), Limits{Depth: 40}); !errdefs.Is(err, errdefs.Exhausted) {
		t.Errorf("deep through a link: %v", err)
	}
}
