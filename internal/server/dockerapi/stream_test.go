package dockerapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/stdcopy"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/engine/exec"
	"lade/internal/errdefs"
	"lade/internal/server/socket"
)

// dial sends a request by hand and returns the connection and the head of the
// answer.
func dial(t *testing.T, network, addr, request string) (net.Conn, *bufio.Reader, string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return c, r, head.String()
		}
	}
}

const attachUpgrade = "POST /v1.50/containers/c/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"

// echo is a session: it sends back what comes in, in capitals, after what was
// read ahead; then a last word when the input ends.
func echo(f *os.File, ahead []byte, ended func()) {
	defer ended()
	defer f.Close()
	if _, err := f.Write(bytes.ToUpper(ahead)); err != nil {
		return
	}
	buf := make([]byte, 1024)
	for {
		n, err := f.Read(buf)
		if _, err := f.Write(bytes.ToUpper(buf[:n])); err != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_, _ = f.WriteString("bye")
}

func echoService(tty bool, wg *sync.WaitGroup) *fake {
	return &fake{attach: func(_ string, _ container.AttachOptions, hijack container.Hijack) error {
		f, ahead, err := hijack(tty)
		if err != nil {
			return err
		}
		wg.Add(1)
		go echo(f, ahead, wg.Done)
		return nil
	}}
}

// TestAttach checks the answer that ends HTTP, byte for byte, on a Unix socket
// and over TCP; that input sent right behind the request arrives; and that a
// client that closes its half still gets the output.
func TestAttach(t *testing.T) {
	const head101 = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.%s-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	plain := strings.Replace(attachUpgrade, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "", 1)
	tests := []struct {
		name, request string
		tty           bool
		want          string
	}{
		{"upgrade", attachUpgrade, false, fmt.Sprintf(head101, "multiplexed")},
		{"upgrade tty", attachUpgrade, true, fmt.Sprintf(head101, "raw")},
		{"plain", plain, false, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"},
		{"input ahead", attachUpgrade + "early ", true, fmt.Sprintf(head101, "raw")},
	}
	for _, network := range []string{"unix", "tcp"} {
		for _, tt := range tests {
			t.Run(network+" "+tt.name, func(t *testing.T) {
				var sessions sync.WaitGroup
				defer sessions.Wait()
				f := echoService(tt.tty, &sessions)
				var addr string
				if network == "unix" {
					addr = serve(t, f)
				} else {
					l, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					addr = l.Addr().String()
					run(t, l, handler(f))
				}
				c, r, head := dial(t, network, addr, tt.request)
				if head != tt.want {
					t.Fatalf("head %q, want %q", head, tt.want)
				}
				want := "HELLObye"
				if strings.HasSuffix(tt.request, "early ") {
					want = "EARLY " + want
				}
				_, _ = io.WriteString(c, "hello")
				_ = c.(interface{ CloseWrite() error }).CloseWrite()
				got, err := io.ReadAll(r)
				if err != nil || string(got) != want {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
			})
		}
	}
}

// TestSessionIsTheClientsSocket checks that on a Unix socket nothing of the
// engine stands in between: the file is the client's peer, and the session
// outlives the server.
func TestSessionIsTheClientsSocket(t *testing.T) {
	files := make(chan *os.File, 1)
	f := &fake{attach: func(_ string, _ container.AttachOptions, hijack container.Hijack) error {
		f, _, err := hijack(true)
		files <- f
		return err
	}}
	path := serve(t, f)
	c, r, _ := dial(t, "unix", path, attachUpgrade)
	session := <-files
	defer session.Close()
	raw, err := session.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err != nil || int(cred.Pid) != os.Getpid() {
			t.Errorf("peer of the session: %+v, %v", cred, err)
		}
	})
	// As when the engine is stopped: its connections are closed.
	if _, err := session.WriteString("still here\n"); err != nil {
		t.Fatal(err)
	}
	line, err := r.ReadString('\n')
	if err != nil || line != "still here\n" {
		t.Errorf("%q %v", line, err)
	}
	_, _ = io.WriteString(c, "in")
	buf := make([]byte, 2)
	if _, err := io.ReadFull(session, buf); err != nil || string(buf) != "in" {
		t.Errorf("%q %v", buf, err)
	}
	// The last holder's closing is the end.
	_ = session.Close()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("rest %q %v", rest, err)
	}
}

// TestAttachHTTP2 attaches over a connection that carries other requests too.
func TestAttachHTTP2(t *testing.T) {
	var sessions sync.WaitGroup
	srv := httptest.NewUnstartedServer(handler(echoService(true, &sessions)))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	defer sessions.Wait()
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/containers/c/attach?stream=1&stdin=1", pr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", resp.Proto, resp.Status)
	}
	_, _ = io.WriteString(pw, "hello")
	_ = pw.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != "HELLObye" {
		t.Errorf("%q %v", got, err)
	}
}

// TestAttachErrors: before the takeover an error is an answer, after it a line
// in the stream.
func TestAttachErrors(t *testing.T) {
	f := &fake{attach: func(ref string, o container.AttachOptions, hijack container.Hijack) error {
		if !o.Stdout {
			return errdefs.New(errdefs.Conflict, "attach %s: paused", ref)
		}
		f, _, err := hijack(false)
		if err != nil {
			return err
		}
		_ = f.Close()
		return errors.New("attach: the shim is gone")
	}}
	path := serve(t, f)
	_, r, head := dial(t, "unix", path, strings.Replace(attachUpgrade, "&stdout=1", "", 1))
	if !strings.HasPrefix(head, "HTTP/1.1 409 Conflict\r\n") {
		t.Errorf("head %q", head)
	}
	if line, _ := r.ReadString('\n'); line != `{"message":"attach c: paused"}`+"\n" {
		t.Errorf("body %q", line)
	}
	_, r, _ = dial(t, "unix", path, attachUpgrade)
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, r); err != nil || errs.String() != "attach: the shim is gone\r\n" || out.Len() > 0 {
		t.Errorf("out %q, err %q, %v", &out, &errs, err)
	}
}

func TestExecStart(t *testing.T) {
	var got exec.StartOptions
	f := &fake{execs: &fakeExecs{start: func(_ string, o exec.StartOptions, hijack exec.Hijack) error {
		got = o
		if o.Detach {
			return nil
		}
		f, _, err := hijack(o.Tty)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("out")
		return err
	}}}
	path := serve(t, f)
	request := func(body string) string {
		return fmt.Sprintf("POST /exec/e/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	_, r, head := dial(t, "unix", path, request(`{"Tty":true,"ConsoleSize":[24,80]}`))
	out, _ := io.ReadAll(r)
	if !strings.Contains(head, "101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n") || string(out) != "out" {
		t.Errorf("%q %q", head, out)
	}
	if diff := cmp.Diff(exec.StartOptions{Tty: true, Height: 24, Width: 80}, got); diff != "" {
		t.Error(diff)
	}
	_, _, head = dial(t, "unix", path, request(`{"Detach":true,"ConsoleSize":[24,80]}`))
	if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "Content-Length: 0") {
		t.Errorf("detached: %q", head)
	}
	if diff := cmp.Diff(exec.StartOptions{Detach: true}, got); diff != "" {
		t.Error(diff)
	}
}

// TestWait checks that the headers are there as soon as the wait stands, and
// that a client that leaves ends the wait.
func TestWait(t *testing.T) {
	answer := make(chan api.WaitResponse, 1)
	left := make(chan struct{})
	f := &fake{wait: func(ctx context.Context, _ string, cond api.WaitCondition) (<-chan api.WaitResponse, error) {
		if cond == api.WaitConditionRemoved {
			context.AfterFunc(ctx, func() { close(left) })
		}
		return answer, nil
	}}
	path := serve(t, f)
	_, r, head := dial(t, "unix", path, "POST /containers/c/wait HTTP/1.0\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.0 200 OK\r\n") {
		t.Fatalf("head %q", head)
	}
	answer <- api.WaitResponse{StatusCode: 3}
	if line, err := r.ReadString('\n'); line != `{"StatusCode":3}`+"\n" {
		t.Errorf("%q %v", line, err)
	}
	c, _, _ := dial(t, "unix", path, "POST /containers/c/wait?condition=removed HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = c.Close()
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the wait goes on without a client")
	}
}

// logOf returns a stream of entries.
func logOf(tty bool, entries ...container.LogEntry) *container.LogStream {
	return container.NewLogStream(tty, func(context.Context) (container.LogEntry, error) {
		if len(entries) == 0 {
			return container.LogEntry{}, io.EOF
		}
		e := entries[0]
		entries = entries[1:]
		return e, nil
	}, func() error { return nil })
}

func TestLogs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("east", 3600))
	entries := []container.LogEntry{
		{Time: at, Data: []byte("one\n")},
		{Time: at, Data: []byte("half "), Partial: true},
		{Time: at, Data: []byte("oops\n"), Stderr: true},
		{Time: at, Data: []byte("whole\n")},
		{Time: at, Data: []byte("no end")},
	}
	var opts container.LogsOptions
	f := &fake{logs: func(ref string, o container.LogsOptions) (*container.LogStream, error) {
		opts = o
		return logOf(ref == "tty", entries...), nil
	}}
	w := do(t, f, http.MethodGet, "/containers/c/logs?stdout=1&stderr=1&timestamps=1&tail=7&since=5&until=6.5&follow=1&details=1", "")
	if diff := cmp.Diff(container.LogsOptions{
		Stdout: true, Stderr: true, Follow: true, Timestamps: true, Tail: 7, Since: time.Unix(5, 0), Until: time.Unix(6, 5e8),
	}, opts); diff != "" {
		t.Error(diff)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/vnd.docker.multiplexed-stream" {
		t.Error(ct)
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, w.Body); err != nil {
		t.Fatal(err)
	}
	const stamp = "2026-01-02T02:04:05.000006000Z "
	if want := stamp + "one\n" + stamp + "half whole\n" + stamp + "no end"; out.String() != want {
		t.Errorf("stdout %q, want %q", &out, want)
	}
	if want := stamp + "oops\n"; errs.String() != want {
		t.Errorf("stderr %q, want %q", &errs, want)
	}

	w = do(t, f, http.MethodGet, "/containers/tty/logs?stdout=1&tail=all", "")
	if ct := w.Header().Get("Content-Type"); ct != "application/vnd.docker.raw-stream" || opts.Tail != -1 {
		t.Error(ct, opts.Tail)
	}
	if got, want := w.Body.String(), "one\nhalf oops\nwhole\nno end"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLogsFollow checks that a line goes out when it comes, and that the
// stream is closed when the client leaves.
func TestLogsFollow(t *testing.T) {
	lines := make(chan string)
	closed := make(chan struct{})
	f := &fake{logs: func(string, container.LogsOptions) (*container.LogStream, error) {
		return container.NewLogStream(true, func(ctx context.Context) (container.LogEntry, error) {
			select {
			case l := <-lines:
				return container.LogEntry{Data: []byte(l)}, nil
			case <-ctx.Done():
				return container.LogEntry{}, ctx.Err()
			}
		}, func() error { close(closed); return nil }), nil
	}}
	path := serve(t, f)
	c, r, _ := dial(t, "unix", path, "GET /containers/c/logs?stdout=1&follow=1 HTTP/1.0\r\n\r\n")
	for _, l := range []string{"one\n", "two\n"} {
		lines <- l
		if got, err := r.ReadString('\n'); got != l {
			t.Fatalf("%q %v, want %q", got, err, l)
		}
	}
	_ = c.Close()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the log is still read without a client")
	}
}

// TestListen checks mode and removal of the socket, and that Close leaves
// another engine's socket alone.
func TestListen(t *testing.T) {
	path := serve(t, &fake{})
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	first, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the first listener removed the second's socket: %v", err)
	}
	_ = second.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after Close: %v", err)
	}
}

// TestGuard has another user knock.
func TestGuard(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := serve(t, &fake{})
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[uintptr]bool{0: true, 65534: false} {
		if got := askAs(t, uid, path); got != want {
			t.Errorf("user %d is let in: %v, want %v", uid, got, want)
		}
	}
}

// FuzzFilters and the like: whatever a query says, it is read or refused.
func FuzzFilters(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":["b"]}`, `{"a":{"b":true}}`, "[]", "null", `{"a":null}`, "1.5", "-1", "2023-11-14T22:13:20Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := &call{query: map[string][]string{"filters": {s}, "t": {s}, "h": {s}, "w": {s}}}
		if got, err := c.filters(); err == nil && got != nil {
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			c.query.Set("filters", string(text))
			again, err := c.filters()
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Errorf("%q: %v %s", s, err, diff)
			}
		}
		_, _ = c.moment("t")
		_, _ = c.integer("t", 0)
		_, _, _ = c.size()
	})
}

// TestAbortedSessions has clients leave at once, a thousand times: neither
// goroutines nor descriptors may gather (CVE-2025-64329 and the like).
func TestAbortedSessions(t *testing.T) {
	var sessions sync.WaitGroup
	f := echoService(false, &sessions)
	unix := serve(t, f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, handler(f))
	descriptors := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	goroutines, fds := runtime.NumGoroutine(), descriptors()
	for i := range 1000 {
		network, addr := "unix", unix
		if i%2 == 0 {
			network, addr = "tcp", l.Addr().String()
		}
		c, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, attachUpgrade[:len(attachUpgrade)-i%3]) // a third of them do not even end their request
		_ = c.Close()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); ; {
		g, d := runtime.NumGoroutine(), descriptors()
		if g <= goroutines && d <= fds {
			break
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d goroutines, %d descriptors; %d and %d before", g, d, goroutines, fds)
		}
	}
	sessions.Wait()
}
