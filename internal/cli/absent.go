package cli

import (
	"github.com/spf13/cobra"

	"lade/internal/errdefs"
)

// absence is a command of Docker's that Lade does not have, and what it has
// instead. Somebody who types it learns that at once, rather than that it is
// unknown.
type absence struct {
	name, why, instead string
}

// absent returns them all.
func absent() []absence {
	const swarm = "Lade runs the containers of one machine; it is no member of a swarm"
	const kube = "for many machines, use Kubernetes"
	return []absence{
		{"build", "Lade does not build images yet", "build with docker or buildah, and 'lade load' or 'lade pull' the image"},
		{"builder", "Lade does not build images yet", "build with docker or buildah, and 'lade load' or 'lade pull' the image"},
		{"buildx", "Lade does not build images yet", "build with docker or buildah, and 'lade load' or 'lade pull' the image"},
		{"checkpoint", "Lade does not freeze containers to disk", "'lade pause' keeps one in memory, 'lade commit' keeps its files"},
		{"compose", "Lade has no compose of its own", "docker's works with it: DOCKER_HOST=unix:///run/lade/lade.sock docker compose up"},
		{"config", swarm, "mount a file: --mount type=bind,source=FILE,target=PATH,readonly"},
		{"node", swarm, kube},
		{"plugin", "Lade's engine takes no plugins", "log drivers, volumes and networks are built in"},
		{"search", "Lade does not search registries: they have no common way to ask", "look at the registry's site; 'lade image list-tags NAME' lists the tags of a repository"},
		{"secret", swarm, "mount a file: --mount type=bind,source=FILE,target=PATH,readonly"},
		{"service", swarm, kube},
		{"stack", swarm, kube},
		{"swarm", swarm, kube},
		{"trust", "Docker's content trust has come to its end", "Lade verifies signatures of sigstore's kind when it pulls, as policy.json says"},
	}
}

// command returns the command that says so, whatever follows it.
func (a absence) command() *cobra.Command {
	return &cobra.Command{
		Use: a.name, Short: a.why, Long: "Instead: " + a.instead + ".", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if arg == "--help" || arg == "-h" {
					return cmd.Help()
				}
			}
			return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "%s: %s", cmd.CommandPath(), a.why), "%s", a.instead)
		},
	}
}
