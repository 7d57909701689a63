package forward

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"lade/internal/linux/dgram"
	"lade/internal/logs"
)

// JournalSocket is where journald takes entries in its native protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JournalSocket = "/run/systemd/journal/socket"

// journal sends lines to journald, with the fields that Docker's driver sends:
// `journalctl CONTAINER_NAME=web` finds them.
type journal struct {
	socket  *dgram.Socket
	fixed   []byte // the fields that are the same in each entry
	dropped uint64
}

func newJournal(c Config) *journal {
	path := c.Address
	if path == "" {
		path = JournalSocket
	}
	j := &journal{}
	j.socket, _ = dgram.New([]dgram.Target{{Network: "unixgram", Address: path}}, retryDelay) // a path is always good
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		j.fixed = appendField(j.fixed, name, c.Fields[name])
	}
	j.fixed = appendField(j.fixed, "SYSLOG_IDENTIFIER", c.Tag)
	return j
}

// Line implements Driver.
func (j *journal) Line(e logs.Entry) {
	b := slices.Clone(j.fixed)
	b = appendField(b, "PRIORITY", strconv.Itoa(priority(e.Stream)))
	b = appendField(b, "SYSLOG_TIMESTAMP", e.Time.Format(time.RFC3339Nano))
	if e.Partial {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", "true")
	}
	b = appendField(b, "MESSAGE", string(e.Data))
	if !j.socket.Send(b) {
		j.dropped++
	}
}

// appendField appends a field: NAME=value, or where the value has newlines the
// name, the length in 64 bits, the value.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.IndexByte(value, '\n') < 0 {
		b = append(b, '=')
	} else {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	}
	return append(append(b, value...), '\n')
}

// Dropped implements Driver.
func (j *journal) Dropped() uint64 { return j.dropped + j.socket.Lost() }

// Close implements Driver.
func (j *journal) Close() { j.socket.Close() }
