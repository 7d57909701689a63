package dockerapi

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/logs"

	"lade/internal/server/socket"
)

// given is an answer that a handler gave away.
type given struct {
	method, target string
	conn           net.Conn
}

// leaves has h leave and returns what it gives.
func leaves(t *testing.T, h *Handler) <-chan given {
	t.Helper()
	out := make(chan given, 10)
	h.Leave(func(method, target string, f *os.File) error {
		conn, err := net.FileConn(f)
		if err != nil {
			return err
		}
		out <- given{method, target, conn}
		return nil
	})
	return out
}

// TestLeave has three handlers answer one request one after the other. To the
// client it is one answer.
func TestLeave(t *testing.T) {
	script := [][]container.LogEntry{
		{{Data: []byte("one\n"), End: logs.Position{Segment: 1, Offset: 10}}, {Data: []byte("tw"), Partial: true, End: logs.Position{Segment: 1, Offset: 20}}},
		{{Data: []byte("o\n"), End: logs.Position{Segment: 2, Offset: 5}}},
		{{Data: []byte("three\n"), End: logs.Position{Segment: 2, Offset: 9}}},
	}
	wants := []logs.Position{{}, {Segment: 1, Offset: 20}, {Segment: 2, Offset: 5}}
	engine := func(i int) *Handler {
		return handler(&fake{logs: func(ref string, o container.LogsOptions) (*container.LogStream, error) {
			if o.After != wants[i] || !o.Follow || !o.Timestamps {
				t.Errorf("engine %d is asked for %s %+v", i, ref, o)
			}
			left := script[i]
			s := container.NewLogStream(false, func(ctx context.Context) (container.LogEntry, error) {
				if len(left) == 0 && i < len(script)-1 {
					<-ctx.Done()
					return container.LogEntry{}, ctx.Err()
				}
				if len(left) == 0 {
					return container.LogEntry{}, io.EOF
				}
				e := left[0]
				left = left[1:]
				return e, nil
			}, func() error { return nil })
			s.ID = "c0ffee"
			return s, nil
		}})
	}
	l, err := socket.Listen(t.TempDir() + "/s")
	if err != nil {
		t.Fatal(err)
	}
	first := engine(0)
	run(t, l, first)
	resp, err := http.ReadResponse(bufio.NewReader(request(t, l.Addr().String(), "GET /v1.47/containers/name/logs?stdout=1&follow=1&timestamps=1 HTTP/1.1\r\nHost: x\r\n\r\n")), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	var got strings.Builder
	more := func(n int64) {
		t.Helper()
		if _, err := io.CopyN(&got, body, n); err != nil {
			t.Fatal(err)
		}
	}
	stamp := int64(len(stampFormat)) // of a time in UTC
	more(8 + stamp - 5 + 1 + 4 + 8 + stamp - 5 + 1 + 2)
	g := <-leaves(t, first)
	first.Left()
	if g.method != http.MethodGet || !strings.HasPrefix(g.target, "/v1.47/containers/c0ffee/logs?") {
		t.Errorf("given: %s %s", g.method, g.target)
	}
	second := engine(1)
	go second.Continue(context.Background(), g.method, g.target, g.conn)
	more(8 + 2)
	g = <-leaves(t, second)
	go engine(2).Continue(context.Background(), g.method, g.target, g.conn)
	rest, err := io.ReadAll(body)
	if err != nil {
		t.Errorf("the end: %v", err)
	}
	got.Write(rest)
	const zero = "0001-01-01T00:00:00.000000000Z "
	frames := func(lines ...string) (s string) {
		for _, l := range lines {
			s += string(frame(stdout, []byte(l)))
		}
		return s
	}
	if want := frames(zero+"one\n", zero+"tw", "o\n", zero+"three\n"); got.String() != want {
		t.Errorf("the client got %q, want %q", got.String(), want)
	}
}

// request sends one and returns the connection.
func request(t *testing.T, path, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLeaveWait checks that a wait goes on from the moment at which it began,
// and that one which cannot be given breaks.
func TestLeaveWait(t *testing.T) {
	standing := make(chan struct{}, 2)
	f := &fake{wait: func(context.Context, string, api.WaitCondition) (<-chan api.WaitResponse, error) {
		standing <- struct{}{}
		return make(chan api.WaitResponse), nil
	}}
	l, err := socket.Listen(t.TempDir() + "/s")
	if err != nil {
		t.Fatal(err)
	}
	h := handler(f)
	run(t, l, h)
	c := request(t, l.Addr().String(), "POST /containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n")
	old := request(t, l.Addr().String(), "POST /containers/c/wait HTTP/1.0\r\n\r\n")
	<-standing
	<-standing
	g := <-leaves(t, h)
	if g.target != "/v1.56/containers/c/wait?condition=next-exit&lade-wait-since=%2B" {
		t.Errorf("given: %s", g.target)
	}
	answered := &fake{wait: func(context.Context, string, api.WaitCondition) (<-chan api.WaitResponse, error) {
		ch := make(chan api.WaitResponse, 1)
		ch <- api.WaitResponse{StatusCode: 3}
		return ch, nil
	}}
	go handler(answered).Continue(context.Background(), g.method, g.target, g.conn)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != `{"StatusCode":3}`+"\n" || err != nil {
		t.Errorf("body %q, %v", body, err)
	}
	broken, err := http.ReadResponse(bufio.NewReader(old), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Body.Close()
	if body, _ := io.ReadAll(broken.Body); len(body) > 0 {
		t.Errorf("a client of HTTP/1.0 got %q", body)
	}
}

// TestContinueNonsense checks that what another process sends is a request, or
// the end of a connection.
func TestContinueNonsense(t *testing.T) {
	for _, target := range []string{"", ":", "/nowhere", "/v1.47/containers/c/logs?stdout=1&lade-logs-after=x", "/v9.9/info", "/containers/c/wait?condition=x"} {
		ours, theirs := net.Pipe()
		go handler(&fake{}).Continue(context.Background(), "GET", target, theirs)
		if data, _ := io.ReadAll(ours); strings.HasSuffix(string(data), "0\r\n\r\n") {
			t.Errorf("%q: the client takes %q for a whole answer", target, data)
		}
	}
}
