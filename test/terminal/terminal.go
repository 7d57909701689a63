// Package terminal puts a command on a pseudo-terminal, as a person has it,
// and waits for what it shows there.
package terminal

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/internal/linux/pty"
)

// patience is how long a text or an end may take to come.
const patience = 30 * time.Second

// Session is a command on a terminal of its own.
type Session struct {
	tb     testing.TB
	cmd    *exec.Cmd
	master *os.File
	shown  chan string // what comes from the command; closed with its last descriptor
	seen   string      // what came, and no See has looked for
	ended  chan struct{}
}

// Start starts cmd with a terminal of 24 by 80 as its controlling one. When
// the test ends, so does the command.
func Start(tb testing.TB, cmd *exec.Cmd) *Session {
	tb.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Session{tb: tb, cmd: cmd, master: master, shown: make(chan string, 64), ended: make(chan struct{})}
	s.Resize(24, 80)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	_ = slave.Close()
	if err != nil {
		_ = master.Close()
		tb.Fatal(err)
	}
	go func() {
		defer close(s.shown)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			s.shown <- string(b[:n])
		}
	}()
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // the exit code tells
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-s.ended
		_ = master.Close()
		for range s.shown {
			// Until the reader has ended.
		}
	})
	return s
}

// Enter types text.
func (s *Session) Enter(text string) {
	s.tb.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.tb.Fatal(err)
	}
}

// See waits until the terminal shows text, and forgets what came before.
func (s *Session) See(text string) {
	s.tb.Helper()
	timeout := time.After(patience)
	for {
		if _, rest, ok := strings.Cut(s.seen, text); ok {
			s.seen = rest
			return
		}
		select {
		case more, open := <-s.shown:
			if !open {
				s.tb.Fatalf("the terminal closed before %q; it shows %q", text, s.seen)
			}
			s.seen += more
		case <-timeout:
			s.tb.Fatalf("no %q on the terminal; it shows %q", text, s.seen)
		}
	}
}

// Exit waits for the command and returns its exit code.
func (s *Session) Exit() int {
	s.tb.Helper()
	timeout := time.After(patience)
	shown := s.shown
	for {
		select {
		case <-s.ended:
			return s.cmd.ProcessState.ExitCode()
		case more, open := <-shown: // it may have more to say than the terminal holds
			if !open {
				shown = nil
			}
			s.seen += more
		case <-timeout:
			s.tb.Fatalf("the command does not end; the terminal shows %q", s.seen)
		}
	}
}

// Signal sends the command a signal, which its terminal knows nothing of.
func (s *Session) Signal(sig os.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatal(err)
	}
}

// Resize gives the terminal another size.
func (s *Session) Resize(rows, columns uint16) {
	s.tb.Helper()
	if err := pty.SetSize(int(s.master.Fd()), columns, rows); err != nil {
		s.tb.Fatal(err)
	}
}

// Fd returns the terminal's master side, which knows how the terminal is set
// after the last program has left it, too.
func (s *Session) Fd() int { return int(s.master.Fd()) }
