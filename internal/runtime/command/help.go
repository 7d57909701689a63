package command

import (
	"fmt"
	"io"
	"strings"
)

// helpError is what parsing flags ends with where help is asked for.
type helpError struct{ flags flagSet }

func (*helpError) Error() string { return "help is asked for" }

func isHelp(arg string) bool { return arg == "-h" || arg == "--help" || arg == "-help" }

func (a *app) help() error {
	var b strings.Builder
	fmt.Fprintf(&b, "NAME:\n   %[1]s - Open Container Initiative runtime that explains what it does\n\nUSAGE:\n   %[1]s [--root DIR] [--log FILE] [--log-format text|json] [--debug] [--systemd-cgroup] COMMAND ...\n\nCOMMANDS:\n", a.name)
	for _, c := range commands() {
		fmt.Fprintf(&b, "   %-10s %-38s %s\n", c.name, c.args, c.about)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// commandHelp tells what a command does and which flags it takes.
func (a *app) commandHelp(c command, flags flagSet) error {
	var b strings.Builder
	fmt.Fprintf(&b, "NAME:\n   %[1]s %[2]s - %[3]s\n\nUSAGE:\n   %[1]s %[2]s %[4]s\n", a.name, c.name, c.about, c.args)
	if len(flags) > 0 {
		b.WriteString("\nFLAGS:\n")
	}
	for _, f := range flags {
		var names []string
		for n := range strings.FieldsSeq(f.names) {
			names = append(names, strings.Repeat("-", min(len(n), 2))+n)
		}
		b.WriteString("   " + strings.Join(names, ", "))
		if !f.boolean {
			b.WriteString(" VALUE")
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
