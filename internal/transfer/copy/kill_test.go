package copy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("LADE_TEST_COPIER"); dir != "" {
		copyForever(dir)
	}
	os.Exit(m.Run())
}

// slowly reads little by little, so that a kill finds files half written.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), 512)]) }

// copyForever is the process that TestKilledCopy kills.
func copyForever(dir string) {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	from, err := OpenLayout(filepath.Join(dir, "from"))
	check(err)
	src := spoiled{Source: from, blob: func(r io.Reader) io.Reader { return slowly{r} }}
	for i := 0; ; i++ {
		to, err := MakeLayout(filepath.Join(dir, fmt.Sprint("to", i%3)))
		check(err)
		tag := fmt.Sprint("t", i)
		_, err = Copy(context.Background(), src, to, Options{Object: "both", Tag: tag})
		check(err)
		fmt.Fprintf(os.Stdout, "to%d %s\n", i%3, tag)
		p, err := PackOCI(filepath.Join(dir, "archive", "a.tar"))
		check(err)
		_, err = Copy(context.Background(), src, p, Options{Object: "both", Tag: tag, InOrder: true})
		check(err)
		check(p.Finish())
		check(p.Close())
		check(to.Close())
		if i%3 == 2 {
			check(os.RemoveAll(filepath.Join(dir, "to0")))
			fmt.Fprintln(os.Stdout, "to0 removed")
		}
	}
}

// TestKilledCopy kills copies at random moments. What was reported is there and
// whole, an archive is the old one or the new one, and the next copy leaves
// nothing of those before it.
func TestKilledCopy(t *testing.T) {
	dir := t.TempDir()
	from, err := MakeLayout(filepath.Join(dir, "from"))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	index, _ := fill(t, from)
	archives := filepath.Join(dir, "archive")
	if err := os.Mkdir(archives, 0o700); err != nil {
		t.Fatal(err)
	}
	done := map[string][]string{} // tags by layout
	left := 0
	for range 30 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env, cmd.Stderr = append(os.Environ(), "LADE_TEST_COPIER="+dir), os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(5+rand.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for s := bufio.NewScanner(out); s.Scan(); {
			name, what, _ := strings.Cut(s.Text(), " ")
			if done[name] = append(done[name], what); what == "removed" {
				done[name] = nil
			}
		}
		_ = cmd.Wait()
		killer.Stop()
		if all, _ := filepath.Glob(filepath.Join(dir, "*", "blobs", "sha256", tempPrefix+"*")); len(all) > 0 {
			left++
		}
		for _, name := range []string{"to1", "to2"} {
			checkKilled(t, filepath.Join(dir, name), done[name], string(index))
		}
		checkArchive(t, archives, string(index))
	}
	if len(done["to1"]) == 0 {
		t.Error("no copy ever ended: the test proves nothing")
	}
	t.Logf("%d kills found a blob half written", left)
}

func checkKilled(t *testing.T, dir string, tags []string, index string) {
	t.Helper()
	l, err := MakeLayout(dir) // as the next copy does
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if tmp, _ := filepath.Glob(filepath.Join(dir, "blobs", "*", ".tmp-*")); len(tmp) > 0 {
		t.Errorf("left: %q", tmp)
	}
	for _, tag := range tags {
		to, _ := layout(t)
		if got, err := Copy(t.Context(), l, to, Options{Object: tag, Tag: "x"}); err != nil || string(got.Digest) != index {
			t.Errorf("%s %s was reported: %s, %v", dir, tag, got.Digest, err)
		}
	}
}

func checkArchive(t *testing.T, dir, index string) {
	t.Helper()
	p, err := PackOCI(filepath.Join(dir, "other.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if len(entries) == 0 {
		return
	}
	a, err := OpenOCIArchive(t.Context(), filepath.Join(dir, "a.tar"), ArchiveOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Close()
	to, _ := layout(t)
	if got, err := Copy(t.Context(), a, to, Options{Tag: "x"}); err != nil || string(got.Digest) != index {
		t.Errorf("the archive holds %s, %v", got.Digest, err)
	}
}
