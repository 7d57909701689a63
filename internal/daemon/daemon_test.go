package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

func TestParseOptions(t *testing.T) {
	env := map[string]string{"LADE_DATA_ROOT": "/env/data", "LADE_STATE_DIR": "/env/state", "LADE_HOST": ""}
	o, err := ParseOptions([]string{"--data-root", "/flag/data", "--log-level", "debug"}, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if o.DataRoot != "/flag/data" || o.StateDir != "/env/state" || o.Host != "unix:///env/state/lade.sock" {
		t.Errorf("%+v", o)
	}
	for _, bad := range [][]string{{"--host", "tcp://0.0.0.0:2375"}, {"--host", "unix://relative"}, {"--log-level", "loud"}, {"extra"}, {"--nope"}} {
		if _, err := ParseOptions(bad, func(k string) string { return env[k] }); err == nil {
			t.Errorf("%q were taken", bad)
		}
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "laded.lock")
	l, err := takeLock(path, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = takeLock(path, false)
	if !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("second engine: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = takeLock(path, false)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	l.Close()
}

func TestNotifier(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n := &Notifier{pipe: w}
	n.Failed(errdefs.Hint(errdefs.New(errdefs.Conflict, "two\nlines"), "do this"))
	n.Ready() // too late: nothing more is said
	buf := make([]byte, 100)
	got, _ := r.Read(buf)
	if string(buf[:got]) != "two; lines; do this\n" {
		t.Errorf("%q", buf[:got])
	}
}

func TestEngineID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id")
	a, err := engineID(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := engineID(path); err != nil || b != a {
		t.Errorf("%s, then %s, %v", a, b, err)
	}
}
