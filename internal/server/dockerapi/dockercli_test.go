package dockerapi

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	"lade/internal/engine/container"
	engineexec "lade/internal/engine/exec"
	"lade/internal/errdefs"
	"lade/internal/transfer"
)

// world is a fake engine with containers that shout: each sends its input
// back in capitals, and exits with the code of its last word.
type world struct {
	fake
	mu   sync.Mutex
	seen []string // guarded by mu: the operations, in order
}

func (w *world) note(what ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, strings.Join(what, " "))
}

const fakeID = "5df3a2b1c0de5df3a2b1c0de5df3a2b1c0de5df3a2b1c0de5df3a2b1c0de0001"

func newWorld() *world {
	w := &world{}
	var session *os.File
	req := api.CreateRequest{Config: &api.Config{}}
	exits := map[api.WaitCondition]chan api.WaitResponse{}
	w.create = func(name string, r api.CreateRequest, _ string) (api.CreateResponse, error) {
		w.note("create", name, r.Image)
		if r.Image == "missing" {
			return api.CreateResponse{}, errdefs.New(errdefs.NotFound, "no such image: %s", r.Image)
		}
		req = r
		return api.CreateResponse{ID: fakeID}, nil
	}
	w.attach = func(_ string, _ container.AttachOptions, hijack container.Hijack) error {
		w.note("attach")
		f, _, err := hijack(req.Tty)
		session = f
		return err
	}
	w.wait = func(_ context.Context, _ string, cond api.WaitCondition) (<-chan api.WaitResponse, error) {
		w.note("wait", string(cond))
		exits[cond] = make(chan api.WaitResponse, 1)
		if cond == api.WaitConditionNotRunning { // it does not run
			exits[cond] <- api.WaitResponse{StatusCode: 7}
		}
		return exits[cond], nil
	}
	w.start = func(string) error {
		w.note("start")
		if slices.Contains(req.Cmd, "nosuch") {
			session.Close()
			return errdefs.New(errdefs.Invalid, `exec: "nosuch": executable file not found in $PATH`)
		}
		if session != nil {
			shout(session, req.Cmd, req.OpenStdin)
		}
		for _, c := range exits {
			c <- api.WaitResponse{StatusCode: 7}
		}
		return nil
	}
	w.inspect = func(string, bool) (api.InspectResponse, error) {
		return api.InspectResponse{
			ID: fakeID, Name: "/shouter", State: &api.State{Status: "running", Running: true},
			Config: &api.Config{}, HostConfig: &api.HostConfig{}, NetworkSettings: &api.NetworkSettings{},
		}, nil
	}
	w.list = func(o container.ListOptions) ([]api.Summary, error) {
		return []api.Summary{{ID: fakeID, Names: []string{"/shouter"}, Image: "img", Command: "sh", Created: time.Now().Unix() - 5, State: "running", Status: "Up 4 seconds"}}, nil
	}
	w.logs = func(string, container.LogsOptions) (*container.LogStream, error) {
		return logOf(false, container.LogEntry{Data: []byte("out\n")}, container.LogEntry{Data: []byte("err\n"), Stderr: true}), nil
	}
	w.stop = func(string, container.StopOptions) error { w.note("stop"); return nil }
	w.kill = func(_, sig string) error { w.note("kill", sig); return nil }
	w.remove = func(string, container.RemoveOptions) error { w.note("remove"); return nil }
	w.version = func() (system.VersionResponse, error) {
		return system.VersionResponse{Version: "0.1.0", Os: "linux", Arch: "amd64", Components: []system.ComponentVersion{
			{Name: "Engine", Version: "0.1.0", Details: map[string]string{"ApiVersion": "?", "MinAPIVersion": "?"}},
		}}, nil
	}
	w.images = fakeImages{
		list: []image.Summary{{ID: someDigest, RepoTags: []string{"a:b"}, Created: time.Now().Add(-5 * 24 * time.Hour).Unix(), Size: 7300000}},
		progress: []transfer.Progress{
			{ID: "b", Action: "Pulling from library/a"},
			{Action: "Status: Downloaded newer image for a:b"},
			{Message: "Loaded image: a\n"},
		},
	}
	w.networks = []network.Inspect{{Network: network.Network{Name: "bridge", ID: "b1", Driver: "bridge", Scope: "local"}}}
	w.execs = &fakeExecs{
		create: func(_ string, r api.ExecCreateRequest) (string, error) { req.Cmd = r.Cmd; return "e1", nil },
		start: func(_ string, o engineexec.StartOptions, hijack engineexec.Hijack) error {
			f, _, err := hijack(o.Tty)
			if err == nil {
				shout(f, req.Cmd, false)
			}
			return err
		},
		inspect: func(id string) (api.ExecInspectResponse, error) {
			code := 9
			return api.ExecInspectResponse{ID: id, ExitCode: &code}, nil
		},
	}
	return w
}

// shout plays a container: it says its command, then its input, in capitals.
func shout(f *os.File, cmd []string, stdin bool) {
	defer f.Close()
	_, _ = f.Write(frame(stdout, []byte(strings.ToUpper(strings.Join(cmd, " "))+"\n")))
	_, _ = f.Write(frame(stderr, []byte("done\n")))
	buf := make([]byte, 64<<10)
	for stdin {
		n, err := f.Read(buf)
		if n > 0 {
			_, _ = f.Write(frame(stdout, bytes.ToUpper(buf[:n])))
		}
		stdin = err == nil
	}
}

// docker runs the real docker against the handler.
func docker(t *testing.T, socket, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	program, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("docker's command line is not installed")
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), code
}

// TestDocker has docker's own command line talk to the handler.
func TestDocker(t *testing.T) {
	tests := []struct {
		args  string
		stdin string
		out   string // part of stdout
		err   string // part of stderr
		code  int
		seen  string // the operations
	}{
		{args: "version --format {{.Server.Version}}/{{.Server.APIVersion}}/{{.Server.MinAPIVersion}}", out: "0.1.0/1.56/1.44\n"},
		{args: "info --format {{.Name}}", out: "host\n"},
		{args: "ps", out: "5df3a2b1c0de   img       \"sh\"      5 seconds ago   Up 4 seconds             shouter\n"},
		{args: "run img hello", out: "HELLO\n", err: "done\n", code: 7, seen: "create  img,attach,wait next-exit,start"},
		{args: "run --rm -i --name n img hello", stdin: "and more", out: "HELLO\nAND MORE", err: "done\n", code: 7, seen: "create n img,attach,wait removed,start"},
		{args: "run img nosuch", err: `exec: "nosuch": executable file not found in $PATH`, code: 127, seen: "create  img,attach,wait next-exit,start"},
		{args: "run -d img hello", out: fakeID, seen: "create  img,wait next-exit,start"},
		{args: "exec shouter sh", out: "SH\n", err: "done\n", code: 9},
		{args: "logs shouter", out: "out\n", err: "err\n"},
		{args: "inspect --format {{.Name}} shouter", out: "/shouter\n"},
		{args: "stop shouter", out: "shouter\n", seen: "stop"},
		{args: "kill -s HUP shouter", out: "shouter\n", seen: "kill HUP"},
		{args: "rm shouter", out: "shouter\n", seen: "remove"},
		{args: "network ls --format {{.Name}}", out: "bridge\n"},
		{args: "network inspect --format {{.Driver}} bridge", out: "bridge\n"},
		{args: "wait nobody", out: "7\n", seen: "wait not-running"},
		{args: "images", out: "a            b         012345678901   5 days ago   7.3MB\n"},
		{args: "pull a:b", out: "Status: Downloaded newer image for a:b\n"},
		{args: "pull -q a:b", out: "docker.io/library/a:b\n"},
		{args: "load", stdin: "tar", out: "Loaded image: a\n"},
		{args: "tag a b"},
		{args: "rmi a", out: "Untagged: a\n"},
		{args: "history a", out: "IMAGE"},
		{args: "run missing x", err: "no such image: missing", code: 125, seen: "create  missing,create  missing"},
		{args: "volume ls", err: "this version of Lade does not have this operation", code: 1},
		{args: "node ls", err: "This node is not a swarm manager", code: 1},
		{args: "diff x", err: "does not have this operation", code: 1},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			w := newWorld()
			socket := serve(t, &w.fake)
			out, errs, code := docker(t, socket, tt.stdin, strings.Fields(tt.args)...)
			if !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || code != tt.code {
				t.Errorf("out %q, err %q, code %d; want %q, %q, %d", out, errs, code, tt.out, tt.err, tt.code)
			}
			if got := strings.Join(w.seen, ","); got != tt.seen {
				t.Errorf("operations %q, want %q", got, tt.seen)
			}
		})
	}
}
