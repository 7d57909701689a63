package e2e

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
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/test/terminal"
)

// follow starts an engine that takes over from the one that runs, and returns
// when both have done what they had to: the one serves, the other has left.
func (h *host) follow() {
	h.t.Helper()
	before := h.engine
	h.startEngine("--follow")
	if err := before.Wait(); err != nil {
		h.t.Fatalf("the engine before: %v\n%s", err, h.engineLog())
	}
}

// client is an HTTP client for the engine's socket.
func (h *host) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.dir+"/s/lade.sock")
	}}}
}

// TestFollow replaces the engine ten times. Clients that ask all the time are
// never refused; those that follow a log or wait for an end notice nothing, on
// the very same connection; a session on a terminal goes on.
func TestFollow(t *testing.T) {
	const upgrades, lines = 10, 400
	h := newHost(t)
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	h.follow() // what is compared with the end has an engine of this kind
	before := h.settled(nil)
	script := `trap 'exit 7' TERM; i=0; while [ $i -lt ` + strconv.Itoa(lines) + ` ]; do echo line $i; i=$((i + 1)); sleep 0.01; done; echo last $i; exit 9`
	id := h.must("run", "-d", "--network", "none", "lade/toolbox", "sh", "-c", script)
	shell := terminal.Start(t, h.command(t.Context(), "run", "--rm", "-it", "--network", "none", "lade/toolbox", "sh"))
	shell.Enter("echo be$((1))fore\n")
	shell.See("be1fore")

	c := h.client()
	var clients sync.WaitGroup
	var log bytes.Buffer
	var code atomic.Int64
	followed, waited := make(chan struct{}), make(chan struct{})
	clients.Go(func() {
		resp, err := c.Get("http://d/v1.50/containers/" + id + "/logs?stdout=1&follow=1")
		if err != nil {
			t.Error(err)
			close(followed)
			return
		}
		defer resp.Body.Close()
		close(followed)
		if err := demultiplex(&log, resp.Body); err != nil {
			t.Errorf("follow the log: %v", err)
		}
	})
	clients.Go(func() {
		resp, err := c.Post("http://d/v1.50/containers/"+id+"/wait?condition=next-exit", "", nil)
		close(waited)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		var answer struct{ StatusCode int64 }
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Errorf("wait: %v", err)
		}
		code.Store(answer.StatusCode)
	})
	<-followed
	<-waited
	var events []uint64
	eventsOf, err := c.Get("http://d/v1.50/events")
	if err != nil {
		t.Fatal(err)
	}
	defer eventsOf.Body.Close()
	last := make(chan string, 1)
	clients.Go(func() {
		name := <-last
		for dec := json.NewDecoder(eventsOf.Body); ; {
			var e struct {
				Action string
				Actor  struct{ ID string }
				Number uint64
			}
			if err := dec.Decode(&e); err != nil {
				t.Errorf("events: %v", err)
				return
			}
			events = append(events, e.Number)
			if e.Action == "destroy" && e.Actor.ID == name {
				return
			}
		}
	})
	// Each asks on a new connection, so that a refused one shows.
	ctx, enough := context.WithCancel(t.Context())
	var asked atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				each := h.client()
				resp, err := each.Get("http://d/v1.50/containers/json")
				if err != nil {
					t.Errorf("ask: %v", err)
					return
				}
				if resp.StatusCode != http.StatusOK {
					t.Errorf("ask: %s", resp.Status)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				each.CloseIdleConnections()
				asked.Add(1)
			}
		})
	}
	for i := range upgrades {
		h.follow()
		h.must("create", "--name", fmt.Sprint("n", i), "--network", "none", "lade/toolbox", "true")
	}
	enough()
	for i := range upgrades {
		id := h.must("inspect", "-f", "{{.Id}}", fmt.Sprint("n", i))
		h.must("rm", id)
		if i == upgrades-1 {
			last <- id
		}
	}
	shell.Enter("echo af$((2))ter\n")
	shell.See("af2ter")
	shell.Enter("exit 5\n")
	if code := shell.Exit(); code != 5 {
		t.Errorf("the shell's exit code: %d, want 5", code)
	}
	clients.Wait()
	if t.Failed() {
		t.Log(h.engineLog())
	}
	t.Logf("%d requests answered during %d upgrades", asked.Load(), upgrades)
	checkNumbered(t, 0, strings.TrimSuffix(log.String(), "\n"))
	if code.Load() != 9 {
		t.Errorf("the wait's answer: %d, want 9", code.Load())
	}
	for i, n := range events {
		if i > 0 && n != events[i-1]+1 {
			t.Errorf("event %d comes after event %d", n, events[i-1])
		}
	}
	if len(events) < 2*upgrades {
		t.Errorf("%d events", len(events))
	}
	h.must("rm", id)
	h.checkLeft(before)
}

// demultiplex writes the data of Docker's frames to w, until the body's end.
func demultiplex(w io.Writer, body io.Reader) error {
	r := bufio.NewReader(body)
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := int64(head[4])<<24 | int64(head[5])<<16 | int64(head[6])<<8 | int64(head[7])
		if _, err := io.CopyN(w, r, n); err != nil {
			return err
		}
	}
}

// TestFollowerDies kills the engine that is to take over before it serves: the
// one before it goes on, as the same process.
func TestFollowerDies(t *testing.T) {
	h := newHost(t)
	id := h.must("run", "-d", "--network", "none", "lade/toolbox", "sleep", "1000")
	pid := h.engine.Process.Pid
	// It stops itself as soon as it has been given everything: it asks for the
	// lock, which the first one has not let go of yet, and the kernel tells us.
	follower := exec.Command(h.bin+"/laded", "--follow")
	follower.Env = h.env
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(follower.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	awaitLog(t, h, "another engine takes over")
	_ = follower.Process.Kill()
	_ = follower.Wait()
	if got := h.must("inspect", "-f", "{{.State.Status}}", id); got != "running" {
		t.Errorf("the container is %s", got)
	}
	raw, err := os.ReadFile(h.dir + "/s/laded.lock")
	if err != nil || strings.TrimSpace(string(raw)) != strconv.Itoa(pid) {
		t.Errorf("the engine is process %q, want %d: %v\n%s", raw, pid, err, h.engineLog())
	}
	h.follow() // and can be followed again
	h.must("rm", "-f", id)
}

// awaitLog waits until the engine's log has a text.
func awaitLog(t *testing.T, h *host, text string) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(h.engineLog(), text) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the engine never says %q:\n%s", text, h.engineLog())
		}
	}
}

// TestUpgrade replaces the engine by command.
func TestUpgrade(t *testing.T) {
	h := newHost(t)
	id := h.must("run", "-d", "--network", "none", "lade/toolbox", "sleep", "1000")
	if out := h.must("system", "upgrade"); !strings.HasPrefix(out, "Replaced laded ") {
		t.Errorf("upgrade says %q", out)
	}
	if err := h.engine.Wait(); err != nil {
		t.Errorf("the engine before: %v", err)
	}
	h.engine = nil // the one that runs is the command's
	if got := h.must("inspect", "-f", "{{.State.Status}}", id); got != "running" {
		t.Errorf("the container is %s", got)
	}
	h.killEngine()
	if out := h.must("system", "upgrade"); !strings.HasPrefix(out, "Started laded ") {
		t.Errorf("upgrade of nothing says %q", out)
	}
	h.must("rm", "-f", id)
}

// TestFollowWhatIsNot checks what --follow says where it cannot follow.
func TestFollowWhatIsNot(t *testing.T) {
	h := newHost(t)
	other := exec.Command(h.bin+"/laded", "--follow", "--data-root", h.dir+"/other")
	other.Env = h.env
	out, err := other.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has the data root "+h.dir+"/d, not "+h.dir+"/other") {
		t.Errorf("with another data root: %v\n%s", err, out)
	}
	h.must("version")
	h.killEngine()
	h.startEngine("--follow") // nobody is there
	h.must("version")
}
