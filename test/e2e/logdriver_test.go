package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLogDrivers runs containers whose output goes elsewhere, too, and reads it
// there and by `lade logs`.
func TestLogDrivers(t *testing.T) {
	h := newHost(t)
	say := []string{"lade/toolbox", "sh", "-c", "echo one; echo two >&2; printf three"}
	run := func(driver string, options ...string) string {
		t.Helper()
		args := []string{"run", "-d", "--network", "none", "--name", driver, "--label", "team=a", "--log-driver", driver}
		for _, o := range options {
			args = append(args, "--log-opt", o)
		}
		id := h.must(append(args, say...)...)
		h.must("wait", id)
		if r := h.lade("logs", id); driver != "none" && (r.stdout != "one\nthree\n" || r.stderr != "two\n") {
			t.Errorf("%s: logs are %q and %q", driver, r.stdout, r.stderr)
		}
		return id
	}
	run("json-file", "labels=team", "max-size=1m", "max-file=2")
	path := h.must("inspect", "-f", "{{.LogPath}}", "json-file")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var e struct {
			Log, Stream string
			Attrs       map[string]string
			Time        time.Time
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Attrs["team"] != "a" || e.Time.IsZero() {
			t.Errorf("%s: %v", line, err)
		}
		got = append(got, e.Stream+" "+e.Log)
	}
	if all := strings.Join(got, ""); !strings.Contains(all, "stdout one\n") || !strings.Contains(all, "stderr two\n") || !strings.Contains(all, "stdout three\n") {
		t.Errorf("%s holds %q", path, got)
	}

	daemon, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(h.dir, "log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	_ = daemon.SetDeadline(time.Now().Add(30 * time.Second))
	run("syslog", "syslog-address=unixgram://"+h.dir+"/log", "tag={{.Name}}")
	for range 3 {
		buf := make([]byte, 1000)
		n, err := daemon.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if m := string(buf[:n]); !strings.Contains(m, " syslog[") || !strings.HasPrefix(m, "<30>") && !strings.HasPrefix(m, "<27>") {
			t.Errorf("message %q", m)
		}
	}
	run("journald") // without one, the container's own log is there all the same
	none := run("none")
	h.refused(1, "does not support reading", "logs", none)
	h.refused(125, "no log driver named 'smoke' is registered", "run", "--log-driver", "smoke", "lade/toolbox", "true")
	if got := h.must("info", "-f", "{{.LoggingDriver}}"); got != "local" {
		t.Errorf("the default is %s", got)
	}
	h.must("rm", "json-file", "syslog", "journald", none)
	if _, err := os.Stat(path); err == nil {
		t.Errorf("%s is left", path)
	}
}
