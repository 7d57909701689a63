package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"lade/internal/errdefs"
	"lade/internal/runtime/container"
	"lade/internal/runtime/state"
)

func (a *app) list(_ context.Context, args []string) error {
	format, quiet := "table", false
	rest, err := flagSet{text("format f", &format), boolean("quiet q", &quiet)}.parse(args, true)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return errdefs.New(errdefs.Invalid, "list takes no arguments")
	case format != "table" && format != "json":
		return errdefs.New(errdefs.Invalid, "invalid format option: %q", format)
	}
	if _, err := os.Stat(a.root); err != nil && a.rootGiven {
		return fmt.Errorf("list containers: %w", err)
	}
	ids, err := a.store().List()
	if err != nil {
		return err
	}
	states := []container.State{}
	for _, id := range ids {
		s, err := container.Get(a.store(), id)
		if errdefs.Is(err, errdefs.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		states = append(states, s)
	}
	if quiet {
		for _, s := range states {
			_, _ = fmt.Fprintln(a.stdout, s.ID)
		}
		return nil
	}
	if format == "json" {
		return json.NewEncoder(a.stdout).Encode(states)
	}
	w := tabwriter.NewWriter(a.stdout, 12, 1, 3, ' ', 0)
	_, _ = fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, s := range states {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.PID, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
	}
	return w.Flush()
}

func (a *app) ps(ctx context.Context, args []string) error {
	format := "table"
	rest, err := flagSet{text("format f", &format)}.parse(args, false)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errdefs.New(errdefs.Invalid, "a container ID is wanted")
	}
	rec, err := a.record(rest[0])
	if err != nil {
		return err
	}
	pids, err := rec.Cgroup.Procs()
	if err != nil {
		return err
	}
	slices.Sort(pids)
	if format == "json" {
		if pids == nil {
			pids = []int{}
		}
		return json.NewEncoder(a.stdout).Encode(pids)
	}
	if format != "table" {
		return errdefs.New(errdefs.Invalid, "invalid format option: %q", format)
	}
	options := rest[1:]
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := osexec.CommandContext(ctx, "ps", options...).Output()
	if err != nil {
		return fmt.Errorf("run ps: %w", err)
	}
	return a.psTable(out, pids)
}

// psTable prints the lines of ps that are about the given processes.
func (a *app) psTable(out []byte, pids []int) error {
	lines := bufio.NewScanner(bytes.NewReader(out))
	if !lines.Scan() {
		return errors.New("ps printed nothing")
	}
	column := slices.Index(strings.Fields(lines.Text()), "PID")
	if column < 0 {
		return errdefs.New(errdefs.Invalid, "couldn't find PID field in ps output")
	}
	_, _ = fmt.Fprintln(a.stdout, lines.Text())
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) <= column {
			continue
		}
		if pid, err := strconv.Atoi(f[column]); err == nil && slices.Contains(pids, pid) {
			_, _ = fmt.Fprintln(a.stdout, lines.Text())
		}
	}
	return lines.Err()
}

// record returns what is recorded of a container.
func (a *app) record(id string) (*state.Record, error) {
	dir, err := a.store().Open(id)
	if err != nil {
		return nil, err
	}
	return dir.Load()
}

func (a *app) pause(ctx context.Context, args []string) error {
	rec, status, err := a.live(args)
	if err != nil {
		return err
	}
	if status != state.Running && status != state.Created {
		return errdefs.New(errdefs.Conflict, "container not running or created: %s", status)
	}
	return rec.Cgroup.Freeze(ctx)
}

func (a *app) resume(_ context.Context, args []string) error {
	rec, status, err := a.live(args)
	if err != nil {
		return err
	}
	if status != state.Paused {
		return errdefs.New(errdefs.Conflict, "container not paused")
	}
	return rec.Cgroup.Thaw()
}

func (a *app) live(args []string) (*state.Record, state.Status, error) {
	rest, err := flagSet{}.parse(args, true)
	if err != nil {
		return nil, "", err
	}
	id, err := one(rest)
	if err != nil {
		return nil, "", err
	}
	dir, err := a.store().Open(id)
	if err != nil {
		return nil, "", err
	}
	rec, err := dir.Load()
	if err != nil {
		return nil, "", err
	}
	status, err := dir.Status(rec)
	return rec, status, err
}
