package e2e

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serve starts PostgreSQL in /data, and makes a cluster there if there is none.
const serve = `test -s /data/PG_VERSION || initdb -D /data -A trust --no-sync >/dev/null
exec postgres -D /data -k /data -c listen_addresses= -c fsync=off`

// TestPostgres runs Debian's PostgreSQL as its own user, who owns what the
// image declares as a volume: in a named and in an anonymous volume, with and
// without a user namespace, and in a directory of the host. What it has
// written is there after it was stopped, restarted and replaced.
func TestPostgres(t *testing.T) {
	h := newHost(t)
	f, err := os.Open(cacheDir() + "/postgres.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := h.ladeIn(f, "import", "--change", "VOLUME /data", "--change", "USER postgres", "--change", "STOPSIGNAL SIGINT",
		"--change", "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin", "-", "pg")
	if r.code != 0 {
		t.Fatal(r.stderr)
	}
	dir, user := t.TempDir(), h.must("run", "--rm", "pg", "id", "-u")
	id, err := strconv.Atoi(user)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, id, id); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a named volume":              {"-v", "pgdata:/data"},
		"an anonymous volume":         nil,
		"a part of a volume":          {"--mount", "type=volume,src=parts,dst=/data,volume-subpath=one"},
		"a directory of the caller's": {"-v", dir + ":/data"},
	} {
		t.Run(name, func(t *testing.T) { keepsRows(h.with(t), args) })
	}
	t.Run("the same volume, without user namespace", func(t *testing.T) {
		h := h.with(t)
		h.database([]string{"--userns=host", "-v", "pgdata:/data"})
		if got := h.sql("SELECT sum(n) FROM t"); got != "3" {
			t.Errorf("rows are %q", got)
		}
		h.must("rm", "-f", "-v", "db")
	})
	st, err := os.Stat(dir + "/PG_VERSION")
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != uint32(id) {
		t.Errorf("the caller's directory: %+v, %v", st, err)
	}
}

// keepsRows writes a row, restarts the server, writes another, and where the
// place has a name replaces the container.
func keepsRows(h *host, args []string) {
	if strings.Contains(strings.Join(args, " "), "subpath") {
		h.must("run", "--rm", "--user", "root", "-v", "parts:/parts", "pg", "install", "-d", "-o", "postgres", "-m", "700", "/parts/one")
	}
	h.database(args)
	h.sql("CREATE TABLE t (n int)")
	h.sql("INSERT INTO t VALUES (1)")
	h.must("restart", "db")
	h.awaitDatabase()
	h.sql("INSERT INTO t VALUES (2)")
	h.must("kill", "-s", "KILL", "db")
	h.must("wait", "db")
	h.must("start", "db")
	h.awaitDatabase()
	if len(args) > 0 {
		h.must("rm", "-f", "db")
		h.database(args)
	}
	if got := h.sql("SELECT sum(n) FROM t"); got != "3" {
		h.t.Errorf("rows are %q", got)
	}
	h.must("rm", "-f", "-v", "db")
}

func (h *host) database(args []string) {
	h.t.Helper()
	h.must(append(append([]string{"run", "-d", "--name", "db", "--network=none"}, args...), "pg", "sh", "-c", serve)...)
	h.awaitDatabase()
}

// awaitDatabase waits until the server answers.
func (h *host) awaitDatabase() {
	h.t.Helper()
	// There is no event for this: PostgreSQL says so in its log, and again after
	// each start.
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		r := h.lade("exec", "db", "pg_isready", "-q", "-h", "/data")
		if r.code == 0 {
			tick.Stop()
			return
		}
		if strings.Contains(r.stderr, "is not running") {
			h.t.Fatalf("PostgreSQL has ended: %+v", h.lade("logs", "db"))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("PostgreSQL does not answer: %+v", h.lade("logs", "db"))
		}
	}
}

func (h *host) sql(query string) string {
	h.t.Helper()
	return strings.TrimSpace(h.must("exec", "db", "psql", "-h", "/data", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-tAc", query))
}
