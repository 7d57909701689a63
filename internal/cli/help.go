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
	best, distance := "", 3 // more changes than two are another word
	fs.VisitAll(func(f *pflag.Flag) {
		if d := editDistance(m[1], f.Name); !f.Hidden && d < distance && d < len(f.Name) {
			best, distance = "--"+f.Name, d
		}
	})
	return best
}

// editDistance returns how many letters must be changed, added or taken away
// to make one word of the other (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
