package container

import (
	"io"
	"strconv"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

// NewLogs returns the command logs.
func NewLogs(env *command.Env) *cobra.Command {
	o := client.LogsOptions{Stdout: true, Stderr: true}
	cmd := &cobra.Command{
		Use:               "logs [OPTIONS] CONTAINER",
		Short:             "Fetch the logs of a container",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteContainers(),
		RunE:              func(cmd *cobra.Command, args []string) error { return logs(cmd, env, args[0], o) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&o.Details, "details", false, "Show extra details provided to logs")
	fs.BoolVarP(&o.Follow, "follow", "f", false, "Follow log output")
	fs.StringVar(&o.Since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	fs.StringVar(&o.Until, "until", "", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	fs.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	fs.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Show timestamps")
	return cmd
}

func logs(cmd *cobra.Command, env *command.Env, id string, o client.LogsOptions) error {
	if _, err := strconv.ParseUint(o.Tail, 10, 31); err != nil && o.Tail != "all" {
		return errdefs.New(errdefs.Invalid, "--tail %q: want a number of lines, or all", o.Tail)
	}
	now := time.Now()
	var err error
	if o.Since, err = format.Timestamp(o.Since, now); err != nil {
		return err
	}
	if o.Until, err = format.Timestamp(o.Until, now); err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	info, err := c.InspectContainer(cmd.Context(), id)
	if err != nil {
		return err
	}
	tty := info.Config != nil && info.Config.Tty
	if o.Follow && !tty {
		f := follower{env: env, c: c, id: info.ID, opts: o}
		return f.run(cmd.Context())
	}
	body, err := c.Logs(cmd.Context(), info.ID, o)
	if err != nil {
		return err
	}
	defer body.Close()
	if tty {
		_, err = io.Copy(env.Out, body)
	} else {
		_, err = stdcopy.StdCopy(env.Out, env.Err, body)
	}
	return err
}
