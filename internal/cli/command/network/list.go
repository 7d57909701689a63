// Package network holds the commands about networks.
package network

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/format"
)

type listOptions struct {
	noTrunc, quiet bool
	filters        []string
	format         string
}

// NewList returns the command network ls.
func NewList(env *command.Env) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:               "ls [OPTIONS]",
		Aliases:           []string{"list"},
		Short:             "List networks",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd, env) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Only display network IDs")
	fs.StringArrayVarP(&o.filters, "filter", "f", nil, `Provide filter values (e.g. "driver=bridge")`)
	fs.StringVar(&o.format, "format", "", command.FormatUsage)
	return cmd
}

func (o *listOptions) run(cmd *cobra.Command, env *command.Env) error {
	filters, err := command.Filters(o.filters)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	list, err := c.ListNetworks(cmd.Context(), filters)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b network.Inspect) int { return strings.Compare(a.Name, b.Name) })
	rows := make([]row, len(list))
	for i, n := range list {
		rows[i] = row{n: n, whole: o.noTrunc}
	}
	t := format.Table{Format: o.format, Quiet: o.quiet, Key: "ID", Headers: listHeaders, Default: `{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}`}
	return format.Write(env.Out, t, rows)
}

// listHeaders are the headings of the columns.
var listHeaders = map[string]string{
	"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL",
	"Labels": "LABELS", "CreatedAt": "CREATED AT",
}

// row is a line of network ls.
type row struct {
	n     network.Inspect
	whole bool
}

func (row) IsRow() {}

func (r row) ID() string {
	if r.whole {
		return r.n.ID
	}
	return r.n.ID[:min(12, len(r.n.ID))]
}

func (r row) Name() string { return r.n.Name }

func (r row) Driver() string { return r.n.Driver }

func (r row) Scope() string { return r.n.Scope }

func (r row) IPv4() string { return strconv.FormatBool(r.n.EnableIPv4) }

func (r row) IPv6() string { return strconv.FormatBool(r.n.EnableIPv6) }

func (r row) Internal() string { return strconv.FormatBool(r.n.Internal) }

func (r row) CreatedAt() string { return r.n.Created.String() }

func (r row) Labels() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.n.Labels)) {
		list = append(list, k+"="+r.n.Labels[k])
	}
	return strings.Join(list, ",")
}

// Label returns the value of one label.
func (r row) Label(name string) string { return r.n.Labels[name] }
