package container

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

type statsOptions struct {
	all, noStream, noTrunc bool
	format                 string
}

// NewStats returns the command stats.
func NewStats(env *command.Env) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:               "stats [OPTIONS] [CONTAINER...]",
		Short:             "Display a live stream of container(s) resource usage statistics",
		ValidArgsFunction: env.CompleteContainers("running"),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	fs.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	fs.StringVar(&o.format, "format", "", command.FormatUsage)
	return cmd
}

// statsPause is between two looks at the containers.
const statsPause = time.Second

func (o *statsOptions) run(ctx context.Context, env *command.Env, names []string) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	// What a container uses of the processors shows only in comparison.
	last, err := o.look(ctx, c, names, nil)
	if err != nil {
		return err
	}
	tick := time.NewTicker(statsPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now, err := o.look(ctx, c, names, last)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.show(env.Out, now); err != nil || o.noStream {
			return err
		}
		last = now
	}
}

// look asks for what the containers use: those that are named, or all. One that
// is named must be there.
func (o *statsOptions) look(ctx context.Context, c *client.Client, names []string, last []statsRow) ([]statsRow, error) {
	ids := names
	if len(names) == 0 {
		list, err := c.ListContainers(ctx, client.ListOptions{All: o.all})
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			ids = append(ids, s.ID)
		}
	}
	rows := make([]statsRow, len(ids))
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, id := range ids {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rows[i] = statsRow{asked: id, whole: o.noTrunc}
			rows[i].now, errs[i] = c.Stats(ctx, id)
		})
	}
	wg.Wait()
	var shown []statsRow
	for i, r := range rows {
		if errdefs.Is(errs[i], errdefs.NotFound) && len(names) == 0 {
			continue // it was removed meanwhile
		}
		if errs[i] != nil {
			return nil, errs[i]
		}
		if k := slices.IndexFunc(last, func(l statsRow) bool { return l.now.ID == r.now.ID }); k >= 0 {
			r.before = last[k].now
		}
		shown = append(shown, r)
	}
	return shown, nil
}

func (o *statsOptions) show(w io.Writer, rows []statsRow) error {
	var b bytes.Buffer
	if !o.noStream && (o.format == "" || strings.HasPrefix(o.format, "table")) {
		b.WriteString("\x1b[H\x1b[2J") // a new page
	}
	err := format.Write(&b, format.Table{
		Format: o.format, Headers: statsHeaders,
		Default: `{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`,
	}, rows)
	if err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

// statsHeaders are the headings of the columns.
var statsHeaders = map[string]string{
	"Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
	"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}

// statsRow is a line of stats.
type statsRow struct {
	asked       string
	now, before container.StatsResponse
	whole       bool
}

func (statsRow) IsRow() {}

// runs reports whether there is anything to tell.
func (r statsRow) runs() bool { return !r.now.Read.IsZero() }

func (r statsRow) Container() string { return r.asked }

func (r statsRow) ID() string { return shortID(r.now.ID, r.whole) }

func (r statsRow) Name() string { return strings.TrimPrefix(r.now.Name, "/") }

func (r statsRow) CPUPerc() string {
	if !r.runs() || r.before.Read.IsZero() {
		return "--"
	}
	return fmt.Sprintf("%.2f%%", cpuShare(r.before.CPUStats, r.now.CPUStats))
}

// cpuShare is how much of one processor was used between two looks, in percent.
func cpuShare(before, now container.CPUStats) float64 {
	used := float64(now.CPUUsage.TotalUsage) - float64(before.CPUUsage.TotalUsage)
	all := float64(now.SystemUsage) - float64(before.SystemUsage)
	if used <= 0 || all <= 0 {
		return 0
	}
	return used / all * float64(now.OnlineCPUs) * 100
}

// memory is what is used without what the kernel can take back at once.
func (r statsRow) memory() uint64 {
	m := r.now.MemoryStats
	for _, key := range []string{"total_inactive_file", "inactive_file"} { // v1, v2
		if cache, ok := m.Stats[key]; ok && cache < m.Usage {
			return m.Usage - cache
		}
	}
	return m.Usage
}

func (r statsRow) MemUsage() string {
	if !r.runs() {
		return "-- / --"
	}
	return units.BytesSize(float64(r.memory())) + " / " + units.BytesSize(float64(r.now.MemoryStats.Limit))
}

func (r statsRow) MemPerc() string {
	if !r.runs() || r.now.MemoryStats.Limit == 0 {
		return "--"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(r.memory())/float64(r.now.MemoryStats.Limit))
}

func (r statsRow) NetIO() string {
	if !r.runs() {
		return "--"
	}
	var in, out uint64
	for _, n := range r.now.Networks {
		in, out = in+n.RxBytes, out+n.TxBytes
	}
	return units.HumanSizeWithPrecision(float64(in), 3) + " / " + units.HumanSizeWithPrecision(float64(out), 3)
}

func (r statsRow) BlockIO() string {
	if !r.runs() {
		return "--"
	}
	var in, out uint64
	for _, e := range r.now.BlkioStats.IoServiceBytesRecursive {
		if strings.EqualFold(e.Op, "read") {
			in += e.Value
		} else if strings.EqualFold(e.Op, "write") {
			out += e.Value
		}
	}
	return units.HumanSizeWithPrecision(float64(in), 3) + " / " + units.HumanSizeWithPrecision(float64(out), 3)
}

func (r statsRow) PIDs() string {
	if !r.runs() {
		return "--"
	}
	return strconv.FormatUint(r.now.PidsStats.Current, 10)
}
