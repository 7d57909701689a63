package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"lade/internal/cli/command"
)

// fake is an engine that gives canned answers on a Unix socket and remembers
// what it was asked.
type fake struct {
	t      *testing.T
	socket string
	mux    *http.ServeMux

	mu    sync.Mutex
	calls []string // guarded by mu
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, socket: filepath.Join(t.TempDir(), "s"), mux: http.NewServeMux()}
	t.Cleanup(f.serve())
	return f
}

// serve listens until the function that it returns is called. It takes the
// socket's place at once from one that listens there.
func (f *fake) serve() (stop func()) {
	l, err := net.Listen("unix", f.socket+"+")
	if err != nil {
		panic(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Rename(f.socket+"+", f.socket); err != nil {
		panic(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		path := strings.TrimPrefix(r.URL.Path, "/v1.51")
		if r.URL.RawQuery != "" {
			path += "?" + r.URL.RawQuery
		}
		f.calls = append(f.calls, r.Method+" "+path)
		f.mu.Unlock()
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/v1.51")
		f.mux.ServeHTTP(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	return func() { s.Close() }
}

// answer gives an answer to a pattern: text as it is, anything else as JSON.
func (f *fake) answer(pattern string, status int, body any) {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { reply(w, status, body) })
}

func reply(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	switch b := body.(type) {
	case nil:
	case string:
		_, _ = io.WriteString(w, b)
	default:
		_ = json.NewEncoder(w).Encode(b)
	}
}

// attach takes the connection of a pattern over and gives it to fn.
func (f *fake) attach(pattern, kind string, fn func(conn *net.UnixConn)) {
	f.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			f.t.Error(err)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.%s-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", kind)
		go func() {
			defer conn.Close()
			fn(conn.(*net.UnixConn))
		}()
	})
}

func (f *fake) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// lade runs the command line against the fake.
func (f *fake) lade(in io.Reader, args ...string) (code int, stdout, stderr string) {
	f.t.Helper()
	var out, err bytes.Buffer
	env := &command.Env{In: in, Out: &out, Err: &err, Host: "unix://" + f.socket}
	code = Main(context.Background(), env, append([]string{"--host", "unix://" + f.socket}, args...))
	return code, out.String(), err.String()
}

func frame(stream byte, text string) []byte {
	return append([]byte{stream, 0, 0, 0, byte(len(text) >> 24), byte(len(text) >> 16), byte(len(text) >> 8), byte(len(text))}, text...)
}

const id = "4c01db0b339c7d54a0a7b2d1e5c1dc3a5a4f0d3c6b1f2e3d4c5b6a7980a1b2c3"

// message is the body of an error.
func message(text string) map[string]string { return map[string]string{"message": text} }

func TestRunPullsAttachesStartsAndReturnsTheExitCode(t *testing.T) {
	f := newFake(t)
	created := 0
	var asked container.CreateRequest
	f.mux.HandleFunc("POST /containers/create", func(w http.ResponseWriter, r *http.Request) {
		if created++; created == 1 {
			reply(w, http.StatusNotFound, message("No such image: busybox"))
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		reply(w, http.StatusCreated, container.CreateResponse{ID: id, Warnings: []string{"memory is not limited"}})
	})
	f.answer("POST /images/create", 200, `{"status":"Pulling from library/busybox","id":"latest"}
{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"aaaaaaaaaaaa"}
{"status":"Downloading","progressDetail":{"current":2,"total":2},"id":"aaaaaaaaaaaa"}
{"status":"Pull complete","id":"aaaaaaaaaaaa"}
{"status":"Status: Downloaded newer image for busybox:latest"}
`)
	started := make(chan struct{})
	f.attach("POST /containers/{id}/attach", "multiplexed", func(conn *net.UnixConn) {
		<-started
		in, _ := io.ReadAll(conn) // up to the half-close
		_, _ = conn.Write(frame(1, "out:"+string(in)))
		_, _ = conn.Write(frame(2, "err\n"))
	})
	f.mux.HandleFunc("POST /containers/{id}/wait", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-started
		_, _ = io.WriteString(w, `{"StatusCode":3}`)
	})
	f.mux.HandleFunc("POST /containers/{id}/start", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		close(started)
	})
	code, stdout, stderr := f.lade(strings.NewReader("ping\n"), "run", "--rm", "-i", "--name", "web", "-e", "A=b", "busybox", "cat", "-u")
	if code != 3 || stdout != "out:ping\n" {
		t.Errorf("exit %d, stdout %q; want 3 and the echo", code, stdout)
	}
	wantErr := `Unable to find image 'busybox:latest' locally
latest: Pulling from library/busybox
aaaaaaaaaaaa: Downloading
aaaaaaaaaaaa: Pull complete
Status: Downloaded newer image for busybox:latest
WARNING: memory is not limited
err
`
	if diff := cmp.Diff(wantErr, stderr); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
	want := []string{
		"POST /containers/create?name=web",
		"POST /images/create?fromImage=busybox",
		"POST /containers/create?name=web",
		"POST /containers/" + id + "/attach?stderr=1&stdin=1&stdout=1&stream=1",
		"POST /containers/" + id + "/wait?condition=removed",
		"POST /containers/" + id + "/start",
	}
	if diff := cmp.Diff(want, f.called()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if got := asked.Config; got.Image != "busybox" || !slices.Equal(got.Cmd, []string{"cat", "-u"}) || !got.OpenStdin || !got.StdinOnce ||
		!got.AttachStdin || !got.AttachStdout || !slices.Equal(got.Env, []string{"A=b"}) || !asked.HostConfig.AutoRemove {
		t.Errorf("asked for %+v, %+v", got, asked.HostConfig)
	}
}

// engine answers what run needs, up to the start.
func (f *fake) container(startStatus int, startBody any) {
	f.answer("POST /containers/create", 201, container.CreateResponse{ID: id})
	f.attach("POST /containers/{id}/attach", "multiplexed", func(*net.UnixConn) {})
	f.answer("POST /containers/{id}/start", startStatus, startBody)
}

func TestRunExitCodes(t *testing.T) {
	for _, test := range []struct {
		name, message string
		status, want  int
	}{
		{"no such command", `exec "foo": executable file not found in $PATH`, 400, 127},
		{"no such path", "exec /foo: no such file or directory", 400, 127},
		{"not executable", "exec /etc/passwd: permission denied", 400, 126},
		{"a directory", "exec /etc: is a directory", 400, 126},
		{"engine", "no space left", 500, 125},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.container(test.status, message(test.message))
			f.answer("POST /containers/{id}/wait", 200, nil)
			code, stdout, stderr := f.lade(nil, "run", "busybox")
			if code != test.want || stdout != "" || stderr != "lade: "+test.message+"\n" {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d", code, stdout, stderr, test.want)
			}
		})
	}
}

// TestRunOutlivesTheEngine: the engine dies while lade starts or waits; another
// one comes up on the same socket and knows how the container is.
func TestRunOutlivesTheEngine(t *testing.T) {
	created, running := container.StateCreated, container.StateRunning
	for _, test := range []struct {
		name   string
		dies   string                   // the call under which the engine dies
		state  container.ContainerState // what the next engine says the container is
		second any                      // how the next engine answers wait
		status int                      // … and with which status
		want   int
		says   string
	}{
		{"exit code", "wait", running, container.WaitResponse{StatusCode: 7}, 200, 7, ""},
		{"removed meanwhile", "wait", running, message("no such container"), 404, 125, "its exit code is not known"},
		{"started", "start", running, container.WaitResponse{StatusCode: 5}, 200, 5, ""},
		{"not started", "start", created, container.WaitResponse{StatusCode: 4}, 200, 4, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fake{t: t, socket: filepath.Join(t.TempDir(), "s"), mux: http.NewServeMux()}
			stop := f.serve()
			t.Cleanup(func() { stop() })
			died, again := make(chan struct{}), make(chan struct{})
			die := func() {
				close(died)
				last := stop
				stop = f.serve()
				last() // closes its connections too
				close(again)
			}
			dead := func() bool {
				select {
				case <-died:
					<-again
					return true
				default:
					return false
				}
			}
			f.answer("POST /containers/create", http.StatusCreated, container.CreateResponse{ID: id})
			f.attach("POST /containers/{id}/attach", "multiplexed", func(*net.UnixConn) { <-died })
			f.mux.HandleFunc("POST /containers/{id}/wait", func(w http.ResponseWriter, r *http.Request) {
				if dead() {
					reply(w, test.status, test.second)
					return
				}
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			f.mux.HandleFunc("POST /containers/{id}/start", func(w http.ResponseWriter, r *http.Request) {
				if test.dies == "start" && !dead() {
					go die()
					<-r.Context().Done()
					return
				}
				w.WriteHeader(http.StatusNoContent)
				if test.dies == "wait" {
					go func() {
						<-r.Context().Done() // the answer is out
						die()
					}()
				}
			})
			f.mux.HandleFunc("GET /containers/{id}/json", func(w http.ResponseWriter, _ *http.Request) {
				reply(w, http.StatusOK, container.InspectResponse{ID: id, State: &container.State{Status: test.state}})
			})
			code, _, stderr := f.lade(nil, "run", "--rm", "busybox")
			if code != test.want || !strings.Contains(stderr, test.says) {
				t.Errorf("exit %d, stderr %q; want %d and %q", code, stderr, test.want, test.says)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	f := newFake(t)
	f.answer("DELETE /containers/web", 409, message("container web is running"))
	f.answer("DELETE /containers/nope", 404, message("no such container: nope"))
	f.answer("DELETE /containers/old", 204, nil)
	f.answer("GET /containers/{id}/json", 404, message("no such container"))
	f.answer("GET /images/{id...}", 404, message("no such image"))
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{
			[]string{"rnu"},
			1, "",
			"lade: unknown command: lade rnu\n      did you mean 'lade run'?\n\nUsage:  lade [OPTIONS] COMMAND [ARG...]\n\nRun 'lade --help' for more information\n",
		},
		{
			[]string{"run", "--memroy", "1g", "x"},
			125, "",
			"lade: unknown flag: --memroy\n      did you mean --memory?\n\nUsage:  lade run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'lade run --help' for more information\n",
		},
		{
			[]string{"stop"},
			1, "",
			"lade: 'lade stop' requires at least 1 argument\n\nUsage:  lade stop [OPTIONS] CONTAINER [CONTAINER...]\n\nRun 'lade stop --help' for more information\n",
		},
		{[]string{"rm", "old", "nope", "web"}, 1, "old\n", "lade: no such container: nope\nlade: container web is running\n      stop it first, or use rm --force\n"},
		{[]string{"rm", "-f", "nope"}, 0, "", "lade: no such container: nope\n"},
		{[]string{"inspect", "nope"}, 1, "[]\n", "lade: no such object: nope\n      'lade ps -a', 'lade images' and 'lade volume ls' list what there is\n"},
		{[]string{"logs", "--tail", "x", "web"}, 1, "", "lade: --tail \"x\": want a number of lines, or all\n"},
		{[]string{"run", "--rm", "--restart", "always", "x"}, 125, "", "lade: conflicting options: cannot specify both --restart and --rm\n"},
	} {
		code, stdout, stderr := f.lade(nil, test.args...)
		if code != test.code || stdout != test.stdout {
			t.Errorf("lade %q: exit %d, stdout %q; want %d, %q", test.args, code, stdout, test.code, test.stdout)
		}
		if diff := cmp.Diff(test.stderr, stderr); diff != "" {
			t.Errorf("lade %q: stderr (-want +got):\n%s", test.args, diff)
		}
	}
}
