package cli

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
)

// lacking says which commands and flags of docker's Lade does without, and why.
// A key is a command, or a command and a flag; a flag alone is one of any
// command.
func lacking() map[string]string {
	const (
		windows  = "Windows only"
		sockets  = "the engine listens on Unix sockets, which need no certificates"
		insecure = "registries.conf says so"
		update   = "limits of containers that exist cannot be changed yet"
		swarm    = "of volumes of a swarm"
		freeze   = "containers are not frozen to disk"
	)
	return map[string]string{
		"--cpu-count": windows, "--cpu-percent": windows, "--io-maxbandwidth": windows, "--io-maxiops": windows,
		"--tls": sockets, "--tlscacert": sockets, "--tlscert": sockets, "--tlskey": sockets, "--tlsverify": sockets,
		"--tree": "Docker tries it out; 'lade image tree' shows which layers images share",

		"start --checkpoint": freeze, "start --checkpoint-dir": freeze,
		"container start --checkpoint": freeze, "container start --checkpoint-dir": freeze,
		"rm --link": "links are names, not objects", "container rm --link": "links are names, not objects",
		"load --platform": "an archive's images are loaded as they are", "image load --platform": "an archive's images are loaded as they are",
		"image build": "images are not built yet",

		"manifest create --insecure": insecure, "manifest inspect --insecure": insecure, "manifest push --insecure": insecure,
		"update": update, "container update": update,

		"volume create --availability": swarm, "volume create --group": swarm, "volume create --limit-bytes": swarm,
		"volume create --required-bytes": swarm, "volume create --scope": swarm, "volume create --secret": swarm,
		"volume create --sharing": swarm, "volume create --topology-preferred": swarm, "volume create --topology-required": swarm,
		"volume create --type": swarm,
	}
}

// TestDockersCommandsAndFlags: what docker's command line has, Lade's has too,
// or says in a sentence why not.
func TestDockersCommandsAndFlags(t *testing.T) {
	text, err := os.ReadFile("testdata/docker-28.txt")
	if err != nil {
		t.Fatal(err)
	}
	root := New(&command.Env{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, "")
	excuses, used := lacking(), map[string]bool{}
	excused := func(keys ...string) bool {
		for _, k := range keys {
			if excuses[k] != "" {
				used[k] = true
				return true
			}
		}
		return false
	}
	commands, flags := 0, 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		first := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") })
		if first < 0 {
			first = len(words)
		}
		name := strings.Join(words[:first], " ")
		cmd := find(root, words[:first])
		if cmd == nil {
			if !excused(name) {
				t.Errorf("there is no command %s", name)
			}
			continue
		}
		commands++
		if cmd.DisableFlagParsing { // it says what there is instead
			continue
		}
		for _, f := range words[first:] {
			long, short, _ := strings.Cut(f, "|")
			flags++
			have := cmd.Flags().Lookup(strings.TrimPrefix(long, "--"))
			switch {
			case have == nil:
				if !excused(long, name+" "+long) {
					t.Errorf("%s has no %s", name, long)
				}
			case short != "" && have.Shorthand != strings.TrimPrefix(short, "-"):
				t.Errorf("%s %s is %q for short, not %s", name, long, have.Shorthand, short)
			}
		}
	}
	if commands < 150 || flags < 600 {
		t.Errorf("the list has %d commands with %d flags: it is not whole", commands, flags)
	}
	for k := range excuses {
		if !used[k] {
			t.Logf("%s is there: it needs no excuse any more", k)
		}
	}
}

// find returns a command by its words, "." for the root. Below a command that
// says what there is instead, it is that one.
func find(root *cobra.Command, words []string) *cobra.Command {
	cmd := root
	for _, w := range words {
		if w == "." || cmd.DisableFlagParsing {
			continue
		}
		i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == w || c.HasAlias(w) })
		if i < 0 {
			return nil
		}
		cmd = cmd.Commands()[i]
	}
	return cmd
}
