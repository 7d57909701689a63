package command

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"lade/internal/runtime/program"
)

// fail tells of an error: in the log, as callers parse it, and for people.
func (a *app) fail(message string) {
	_, _ = fmt.Fprintln(a.stderr, message)
	if a.log != "" {
		a.tell("error", message)
	}
}

// warn tells of something that is not done as it was asked for: in the log, if
// there is one, and otherwise for people.
func (a *app) warn(message string) {
	if a.log == "" {
		_, _ = fmt.Fprintln(a.stderr, "warning:", message)
		return
	}
	a.tell("warning", message)
}

// tell adds a line to the log, as callers parse it.
func (a *app) tell(level, message string) {
	out := a.stderr
	if a.log != "" {
		f, err := os.OpenFile(a.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			_, _ = fmt.Fprintln(a.stderr, "write the log:", err)
			return
		}
		defer f.Close()
		out = f
	}
	now := time.Now().Format(time.RFC3339)
	if a.logFormat != "json" {
		_, _ = fmt.Fprintf(out, "time=%q level=%s msg=%q\n", now, level, message)
		return
	}
	line, _ := json.Marshal(struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Time  string `json:"time"`
	}{level, message, now})
	_, _ = out.Write(append(line, '\n'))
}

// planned tells of a program that is about to be carried out: with --debug all
// of it, otherwise what is not in it.
func (a *app) planned(p *program.Program) {
	for _, w := range p.Warnings {
		a.warn(w)
	}
	if !a.debug {
		return
	}
	for line := range strings.Lines(p.Text()) {
		a.tell("debug", strings.TrimSpace(line))
	}
}
