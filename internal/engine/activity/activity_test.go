package activity

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// one is a single container, whose processes are those of this test.
type one struct{ pid int }

func (o one) Find(_ context.Context, ref string) (Target, error) {
	if ref != "c" {
		return Target{}, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	return Target{ID: "c", Name: "name", PID: o.pid}, nil
}

func newService(t *testing.T, pid int) *Service {
	t.Helper()
	s, err := New(one{pid})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTop(t *testing.T) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	pid, own := strconv.Itoa(child.Process.Pid), strconv.Itoa(os.Getpid())
	s := newService(t, child.Process.Pid)
	for _, tt := range []struct{ args, titles, row string }{
		{"-o pid,ppid,args", "PID PPID COMMAND", pid + " " + own + " sleep 1000"},
		{"-opid=P,comm", "P COMMAND", pid + " sleep"},
		{"-eo pid,stat -f", "PID STAT", pid + " S"},
		{"-ax -o pid,tty,ni", "PID TT NI", ""},
	} {
		r, err := s.Top(t.Context(), "c", tt.args)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		if got := strings.Join(r.Titles, " "); got != tt.titles {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.titles)
		}
		if tt.row != "" && !slices.ContainsFunc(r.Processes, func(p []string) bool { return strings.Join(p, " ") == tt.row }) {
			t.Errorf("%s: no %q in %q", tt.args, tt.row, r.Processes)
		}
	}
	for args, want := range map[string]string{
		"": "UID PID PPID C STIME TTY TIME CMD", "-ef": "UID PID PPID C STIME TTY TIME CMD",
		"aux": "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND", "-e": "PID TTY TIME CMD",
	} {
		if r, err := s.Top(t.Context(), "c", args); err != nil || strings.Join(r.Titles, " ") != want {
			t.Errorf("%q: %q, %v; want %s", args, r.Titles, err, want)
		}
	}
	for _, args := range []string{"-o", "-o color", "--forest", "-p 1"} {
		if _, err := s.Top(t.Context(), "c", args); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err := newService(t, 0).Top(t.Context(), "c", ""); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("one that does not run: %v", err)
	}
}

func TestStats(t *testing.T) {
	s := newService(t, os.Getpid())
	var got []api.StatsResponse
	tell := func(r api.StatsResponse) error { got = append(got, r); return nil }
	if err := s.Stats(t.Context(), "c", StatsOptions{OneShot: true}, tell); err != nil {
		t.Fatal(err)
	}
	if err := s.Stats(t.Context(), "c", StatsOptions{}, tell); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Name != "/name" || got[0].CPUStats.SystemUsage == 0 || !got[0].PreRead.IsZero() ||
		got[1].PreRead.IsZero() || got[1].CPUStats.SystemUsage < got[1].PreCPUStats.SystemUsage || got[1].MemoryStats.Limit == 0 {
		t.Errorf("%+v", got)
	}
	got = nil
	if err := newService(t, 0).Stats(t.Context(), "c", StatsOptions{OneShot: true}, tell); err != nil || !got[0].Read.IsZero() || got[0].ID != "c" {
		t.Errorf("one that does not run: %+v, %v", got, err)
	}
	if err := s.Stats(t.Context(), "x", StatsOptions{}, tell); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Stats(ctx, "c", StatsOptions{Stream: true}, func(api.StatsResponse) error { cancel(); return nil }); err == nil {
		t.Error("the client left, and the stream goes on")
	}
}

func TestParseDevices(t *testing.T) {
	got := parseDevices([]byte("Inter-|   Receive  |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0:10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n bad: 1\n"))
	if len(got) != 1 || got["eth0"] != (api.NetworkStats{RxBytes: 10, RxPackets: 2, RxErrors: 3, RxDropped: 4, TxBytes: 50, TxPackets: 6, TxErrors: 7, TxDropped: 8}) {
		t.Errorf("%+v", got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) b) (c) S 0 1 1 34816 1 4194560 1 1 1 1 10 20 1 1 20 0 1 0 100 1024 5 18446744073709551615"))
	f.Add([]byte("1 (a"))
	f.Add([]byte(") ("))
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = parseStat(raw) })
}

func FuzzParseColumns(f *testing.F) {
	f.Add("-ef")
	f.Add("-o pid,=x,comm=")
	f.Fuzz(func(t *testing.T, args string) {
		if c, err := parseColumns(args); err == nil && len(c) == 0 {
			t.Errorf("%q: neither columns nor an error", args)
		}
	})
}
