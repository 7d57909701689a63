package container

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/client"
	"lade/internal/cli/command"
)

// record is one entry of a log as the engine sends it.
type record struct {
	at   time.Time
	kind byte
	text string
}

// TestFollowAcrossEngines: an engine that dies after any number of bytes, again
// and again, loses no line and doubles none, though lines share timestamps and
// long ones come in parts.
func TestFollowAcrossEngines(t *testing.T) {
	var log []record
	var stdout, stderr strings.Builder
	at := time.Unix(1_800_000_000, 0)
	for i := range 200 {
		if i%3 == 0 { // every third shares its time with the two before
			at = at.Add(time.Millisecond)
		}
		r := record{at, byte(1 + i%2), fmt.Sprintf("line %d\n", i)}
		if i%7 == 0 {
			first := record{at, r.kind, fmt.Sprintf("part %d ", i)}
			log = append(log, first)
			at = at.Add(time.Microsecond)
			r.at = at
		}
		log = append(log, r)
	}
	for _, r := range log {
		if r.kind == 1 {
			stdout.WriteString(r.text)
		} else {
			stderr.WriteString(r.text)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, stamps := range []bool{false, true} {
		deaths := 0
		c := engine(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/json") {
				_ = json.NewEncoder(w).Encode(container.InspectResponse{State: &container.State{Running: false}})
				return
			}
			all := wire(log, r.URL.Query().Get("since"))
			if n := random.IntN(2000); n < len(all) {
				deaths++
				_, _ = w.Write(all[:n])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(all)
		})
		var out, err bytes.Buffer
		f := follower{env: &command.Env{Out: &out, Err: &err}, c: c, id: "x", opts: client.LogsOptions{Follow: true, Timestamps: stamps, Tail: "all"}}
		if e := f.run(context.Background()); e != nil {
			t.Fatal(e)
		}
		if deaths < 5 {
			t.Errorf("the engine died %d times only", deaths)
		}
		gotOut, gotErr := out.String(), err.String()
		if stamps {
			gotOut, gotErr = unstamped(gotOut), unstamped(gotErr)
		}
		if gotOut != stdout.String() || gotErr != stderr.String() {
			t.Errorf("timestamps %t: stdout\n%s\nstderr\n%s", stamps, gotOut, gotErr)
		}
	}
}

// wire is what the engine sends of a log from a time on.
func wire(log []record, since string) []byte {
	var from time.Time
	if since != "" {
		var s, ns int64
		_, _ = fmt.Sscanf(since, "%d.%09d", &s, &ns)
		from = time.Unix(s, ns)
	}
	var b []byte
	var inside [3]bool
	for _, r := range log {
		if r.at.Before(from) {
			continue
		}
		text := r.text
		if !inside[r.kind] {
			text = r.at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
		}
		inside[r.kind] = !strings.HasSuffix(r.text, "\n")
		b = append(b, r.kind, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	return b
}

func unstamped(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		b.WriteString(l[min(len(l), stampLen):])
	}
	return b.String()
}

func engine(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c, err := client.New("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzFollow: whatever an engine sends, the follower ends with an error or
// shows it.
func FuzzFollow(f *testing.F) {
	f.Add(wire([]record{{time.Unix(1, 0), 1, "a\n"}, {time.Unix(1, 0), 2, "b"}}, ""))
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, text []byte) {
		fl := follower{env: &command.Env{Out: io.Discard, Err: io.Discard}}
		for range 2 {
			if err := fl.show(bytes.NewReader(text)); errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
	})
}
