package dockerapi

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/errdefs"
)

// The streams of a container in Docker's multiplexed form.
const (
	stdout byte = 1
	stderr byte = 2
)

// frame returns data as one frame of Docker's multiplexed stream: the
// stream's number, three zeros, the length as four bytes, the data.
func frame(stream byte, data []byte) []byte {
	return append(appendHeader(make([]byte, 0, 8+len(data)), stream, len(data)), data...)
}

// appendHeader appends what stands in front of a frame of n bytes.
func appendHeader(b []byte, stream byte, n int) []byte {
	b = append(b, stream, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// flusher sends every write to the client at once.
type flusher struct {
	w  io.Writer
	rc *http.ResponseController
}

func newFlusher(w http.ResponseWriter) *flusher {
	return &flusher{w, http.NewResponseController(w)}
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// messages is a stream of Docker's JSON messages about something that takes
// long. Status 200 goes out with the first: an error before that is answered
// as any other, one after it travels in the stream.
type messages struct {
	mu      sync.Mutex
	out     *flusher
	w       http.ResponseWriter
	started bool // guarded by mu, like the order of writes
}

func newMessages(w http.ResponseWriter) *messages {
	return &messages{w: w, out: newFlusher(w)}
}

// message is jsonstream.Message with the older form of the error, which
// clients still read.
type message struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// send adds a message. That the client left shows in its context.
func (m *messages) send(msg jsonstream.Message) { m.write(message{Message: msg}) }

// aux adds a value for programs.
func (m *messages) aux(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		return
	}
	raw := json.RawMessage(text)
	m.send(jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: &raw})
}

func (m *messages) write(msg message) {
	line, err := json.Marshal(msg)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.started {
		m.started = true
		m.w.Header().Set("Content-Type", "application/json")
		m.w.WriteHeader(http.StatusOK)
	}
	_, _ = m.out.Write(append(line, '\r', '\n'))
}

// end closes the stream with err: it returns it if nothing was sent yet, and
// sends it otherwise.
func (m *messages) end(err error) error {
	if err == nil {
		return nil
	}
	m.mu.Lock()
	started := m.started
	m.mu.Unlock()
	if !started {
		return err
	}
	text := errdefs.Message(err)
	m.write(message{Message: jsonstream.Message{Error: &jsonstream.Error{Code: statusOf(err), Message: text}}, ErrorText: text})
	return nil
}
