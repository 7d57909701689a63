package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
)

// help writes the help of a command, in Docker's order: usage, what it does,
// other names, commands, flags.
func help(env *command.Env, cmd *cobra.Command) error {
	width := 80
	if _, columns, ok := terminal.Size(env.Out); ok {
		width = int(columns)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:  %s\n\n%s\n", cmd.UseLine(), cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", cmd.Long)
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases:\n  %s\n", aliases(cmd))
	}
	for _, heading := range []string{common, groups, "Commands:"} {
		writeCommands(&b, cmd, heading)
	}
	if cmd.HasAvailableLocalFlags() {
		name := "Options:"
		if !cmd.HasParent() {
			name = "Global Options:"
		}
		fmt.Fprintf(&b, "\n%s\n%s", name, cmd.LocalFlags().FlagUsagesWrapped(width))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nRun '%s COMMAND --help' for more information on a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(env.Out, b.String())
	return err
}

func aliases(cmd *cobra.Command) string {
	parent := ""
	if cmd.HasParent() {
		parent = cmd.Parent().CommandPath() + " "
	}
	names := []string{parent + cmd.Name()}
	for _, a := range cmd.Aliases {
		names = append(names, parent+a)
	}
	return strings.Join(names, ", ")
}

func writeCommands(b *strings.Builder, cmd *cobra.Command, heading string) {
	width := 0
	for _, c := range cmd.Commands() {
		width = max(width, len(c.Name()))
	}
	first := true
	for _, c := range cmd.Commands() {
		of := c.Annotations["heading"]
		if of == "" {
			of = "Commands:"
		}
		if of != heading || !c.IsAvailableCommand() {
			continue
		}
		if first {
			fmt.Fprintf(b, "\n%s\n", heading)
			first = false
		}
		fmt.Fprintf(b, "  %-*s   %s\n", width, c.Name(), c.Short)
	}
}

// unknownFlag is pflag's message for a long flag that there is none of.
var unknownFlag = regexp.MustCompile(`^unknown flag: --([^=]+)`)

// nearestFlag returns the flag that an unknown one may have been meant as.
func nearestFlag(fs *pflag.FlagSet, message string) string {
	m := unknownFlag.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	var names []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest(m[1], names); near != "" {
		return "--" + near
	}
	return ""
}

// nearest returns the name that a word was most likely meant as, or "" if none
// is near: more than two slips, or as many as there are letters, are another
// word.
func nearest(word string, names []string) string {
	best, distance := "", 3
	for _, n := range names {
		if d := slips(word, n); d < distance && d < len(n) {
			best, distance = n, d
		}
	}
	return best
}

// slips returns how many letters must be changed, added, left out or swapped
// with their neighbour to make one word of the other.
func slips(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
