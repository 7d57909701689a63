package command

import (
	"bufio"
	"fmt"
	"strings"
)

// Confirm asks a question that yes and no answer. Anything but yes is no, and
// so is the end of the input.
func (e *Env) Confirm(question string) bool {
	fmt.Fprintf(e.Out, "%s\nAre you sure you want to continue? [y/N] ", question)
	line, _ := bufio.NewReader(e.In).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}
