// Package forward writes what containers print to where else their owners want
// it, beside the log that Lade reads itself: to files of JSON lines as Docker's
// json-file driver does, to syslog, or to the journal.
//
// It is for the shim: nothing here waits. What cannot be sent at once is counted
// and dropped; the container's own log still has it.
package forward

import (
	"fmt"
	"time"

	"lade/internal/logs"
)

// The drivers, by Docker's names.
const (
	JSONFile = "json-file"
	Syslog   = "syslog"
	Journald = "journald"
)

// Config says where to. It is a part of the shim's configuration: fields are
// added, never changed.
type Config struct {
	Driver string `json:"driver,omitempty"` // empty: nowhere

	// For json-file.
	Path     string            `json:"path,omitempty"`
	MaxBytes int64             `json:"maxBytes,omitempty"` // of one file; 0: no bound
	MaxFiles int               `json:"maxFiles,omitempty"` // how many are kept; 0 means 1
	Attrs    map[string]string `json:"attrs,omitempty"`    // with each line

	// For syslog. Network is unix, unixgram, udp or tcp; Address a path, or an IP
	// address and a port.
	Network  string `json:"network,omitempty"`
	Address  string `json:"address,omitempty"`
	Facility int    `json:"facility,omitempty"` // RFC 5424, 6.2.1
	Format   string `json:"format,omitempty"`   // "", rfc3164, rfc5424 or rfc5424micro
	Hostname string `json:"hostname,omitempty"`

	// For syslog and the journal.
	Tag string `json:"tag,omitempty"`
	// Fields of the journal, by name.
	Fields map[string]string `json:"fields,omitempty"`
}

// A Driver takes lines. Its methods never block and never fail; Dropped tells
// how many lines it could not take.
type Driver interface {
	Line(logs.Entry)
	Dropped() uint64
	Close()
}

// Open returns the driver of a configuration, or nil for none. That its other end
// is not there is no error: it may come.
func Open(c Config) (Driver, error) {
	switch c.Driver {
	case "":
		return nil, nil
	case JSONFile:
		return newJSONFile(c), nil
	case Syslog:
		return newSyslog(c)
	case Journald:
		return newJournal(c), nil
	}
	return nil, fmt.Errorf("no log driver is called %q", c.Driver)
}

// priority returns the severity of a stream's lines (RFC 5424, 6.2.1), as
// Docker has it.
func priority(s logs.Stream) int {
	if s == logs.Stderr {
		return 3 // error
	}
	return 6 // informational
}

// retryDelay is how long a socket that failed is left alone.
const retryDelay = time.Second
