package shim

import (
	"time"

	"lade/internal/errdefs"
	"lade/internal/shim/wire"
)

// Fields returns the record as it goes over the wire.
func (e Exit) Fields() wire.Fields {
	var f wire.Fields
	f.AddUint(wire.TagCode, uint64(e.Code))
	f.AddUint(wire.TagSignal, uint64(e.Signal))
	f.AddUint(wire.TagOOM, bit(e.OOMKilled, 1))
	f.AddUint(wire.TagStartedAt, nanos(e.StartedAt))
	f.AddUint(wire.TagExitedAt, nanos(e.ExitedAt))
	f.AddUint(wire.TagPeak, uint64(e.PeakMemory))
	f.AddString(wire.TagBy, e.KilledBy)
	f.AddUint(wire.TagUnknown, bit(e.Unknown, 1))
	f.AddString(wire.TagError, e.Error)
	return f
}

// ExitFrom is the reverse of Exit.Fields.
func ExitFrom(f wire.Fields) Exit {
	return Exit{
		Code: int(f.Uint(wire.TagCode)), Signal: int(f.Uint(wire.TagSignal)),
		OOMKilled: f.Uint(wire.TagOOM) != 0,
		StartedAt: instant(f.Uint(wire.TagStartedAt)), ExitedAt: instant(f.Uint(wire.TagExitedAt)),
		PeakMemory: int64(f.Uint(wire.TagPeak)), KilledBy: f.String(wire.TagBy),
		Unknown: f.Uint(wire.TagUnknown) != 0, Error: f.String(wire.TagError),
	}
}

// Fields returns the state as it goes over the wire.
func (s State) Fields() wire.Fields {
	var f wire.Fields
	f.AddString(wire.TagStatus, s.Status)
	f.AddUint(wire.TagPID, uint64(s.PID))
	f.AddUint(wire.TagStartedAt, nanos(s.StartedAt))
	f.AddUint(wire.TagDropped, s.Dropped)
	f.AddUint(wire.TagClients, uint64(s.Clients))
	for _, id := range s.Execs {
		f.AddString(wire.TagExec, id)
	}
	return f
}

func stateFrom(f wire.Fields) State {
	s := State{
		Status: f.String(wire.TagStatus), PID: int(f.Uint(wire.TagPID)),
		StartedAt: instant(f.Uint(wire.TagStartedAt)), Dropped: f.Uint(wire.TagDropped),
		Clients: int(f.Uint(wire.TagClients)),
	}
	for t, v := range f.All {
		if t == wire.TagExec {
			s.Execs = append(s.Execs, string(v))
		}
	}
	return s
}

// Fields returns the attachment as it goes over the wire, but for its File.
func (a Attach) Fields() wire.Fields {
	var f wire.Fields
	f.AddString(wire.TagExec, a.Exec)
	f.AddUint(wire.TagFlags, bit(a.Stdin, wire.FlagStdin)|bit(a.Stdout, wire.FlagStdout)|
		bit(a.Stderr, wire.FlagStderr)|bit(a.Mux, wire.FlagMux)|bit(a.FromLog, wire.FlagFromLog))
	if a.DetachKeys != nil {
		f.AddBytes(wire.TagKeys, a.DetachKeys)
	}
	if len(a.Buffered) > 0 {
		f.AddBytes(wire.TagBuffered, a.Buffered)
	}
	return f
}

// AttachFrom is the reverse of Attach.Fields. Its slices are copies.
func AttachFrom(f wire.Fields) Attach {
	flags := f.Uint(wire.TagFlags)
	a := Attach{
		Exec:  f.String(wire.TagExec),
		Stdin: flags&wire.FlagStdin != 0, Stdout: flags&wire.FlagStdout != 0, Stderr: flags&wire.FlagStderr != 0,
		Mux: flags&wire.FlagMux != 0, FromLog: flags&wire.FlagFromLog != 0,
		Buffered: append([]byte(nil), f.Bytes(wire.TagBuffered)...),
	}
	if k := f.Bytes(wire.TagKeys); k != nil {
		a.DetachKeys = append([]byte{}, k...)
	}
	return a
}

// ErrorFields returns err as it goes over the wire.
func ErrorFields(err error) wire.Fields {
	var f wire.Fields
	text := err.Error()
	f.AddString(wire.TagError, text[:min(len(text), 32<<10)])
	f.AddString(wire.TagClass, errdefs.ClassOf(err).String())
	f.AddString(wire.TagHint, errdefs.HintOf(err))
	return f
}

// errorFrom is the reverse of ErrorFields. A class that we do not know is
// Internal.
func errorFrom(f wire.Fields) error {
	class := errdefs.Internal
	for c := errdefs.Internal; c <= errdefs.DataLoss; c++ {
		if c.String() == f.String(wire.TagClass) {
			class = c
		}
	}
	err := errdefs.New(class, "%s", f.String(wire.TagError))
	if h := f.String(wire.TagHint); h != "" {
		err = errdefs.Hint(err, "%s", h)
	}
	return err
}

func bit(b bool, v uint64) uint64 {
	if b {
		return v
	}
	return 0
}

func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func instant(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n))
}
