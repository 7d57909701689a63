package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestStress has processes pull, run, tag, remove, prune and check the same
// images at random, two at a time, for LADE_TEST_STRESS (30s). No check finds
// anything meanwhile; at the end the ledger is what the file system says, and a
// prune gives back every byte.
func TestStress(t *testing.T) {
	long := 30 * time.Second
	if text := os.Getenv("LADE_TEST_STRESS"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		long = d
	}
	reg := newRegistry(t)
	h := newHost(t)
	s := &stress{host: h, done: map[string]int{}}
	for i := range 3 {
		name := fmt.Sprintf("%s/stress:%d", reg.addr, i)
		h.must("run", "--name", "maker", "lade/toolbox", "sh", "-c", fmt.Sprintf("dd if=/dev/urandom of=/own bs=1M count=%d", i+1))
		h.must("commit", "maker", name)
		h.must("push", name)
		h.must("rm", "maker")
		s.images = append(s.images, name)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	end := time.Now().Add(long)
	var both sync.WaitGroup
	for n := range uint64(2) {
		both.Go(func() {
			r := rand.New(rand.NewPCG(seed, n))
			for time.Now().Before(end) && !t.Failed() {
				s.step(r)
			}
		})
	}
	both.Wait()
	t.Logf("done: %v", s.done)
	for _, verb := range []string{"pull", "run", "rmi"} {
		if s.done[verb] == 0 {
			t.Errorf("no %s ever succeeded: the test proves nothing", verb)
		}
	}
	if r := h.lade("system", "check"); r.code != 0 {
		t.Errorf("check at the end: %s%s", r.stdout, r.stderr)
	}
	s.ledger()
	h.must("system", "prune", "-af")
	s.ledger()
	for _, dir := range []string{"content", "layers"} {
		if left := filesIn(t, filepath.Join(h.dir, "d", dir)); len(left) != 0 {
			t.Errorf("after prune, %s holds %v", dir, left)
		}
	}
}

// stress is one such test.
type stress struct {
	*host
	images []string

	mu   sync.Mutex
	done map[string]int // how often a command succeeded; guarded by mu
}

// expected is what a command may be told when another one was faster.
var expected = regexp.MustCompile(`(?i)no such (image|container)|is (being )?used by|has (a|several) names?|conflict|is not in the store|already running`)

func (s *stress) step(r *rand.Rand) {
	image := s.images[r.IntN(len(s.images))]
	steps := [][]string{
		{"pull", "-q", image},
		{"pull", "-q", image},
		{"run", "--rm", "--network", "none", image, "sh", "-c", "wc -c </own; echo x >/new"},
		{"run", "--rm", "--network", "none", image, "true"},
		{"run", "--network", "none", image, "sh", "-c", "echo left >/behind"},
		{"tag", image, "also:" + fmt.Sprint(r.IntN(2))},
		{"rmi", image},
		{"rmi", "-f", image},
		{"rmi", "also:" + fmt.Sprint(r.IntN(2))},
		{"image", "prune", "-af"},
		{"container", "prune", "-f"},
		{"system", "prune", "-f"},
		{"system", "check"},
		{"system", "df", "-v"},
	}
	args := steps[r.IntN(len(steps))]
	res := s.lade(args...)
	if res.code == 0 {
		s.mu.Lock()
		s.done[args[0]]++
		s.mu.Unlock()
		return
	}
	if args[0] == "pull" || args[0] == "system" || strings.Contains(args[1], "prune") || !expected.MatchString(res.stderr) {
		s.t.Errorf("lade %s: exit %d\n%s%s", strings.Join(args, " "), res.code, res.stdout, res.stderr)
	}
}

// ledger compares the engine's ledger with the file system.
func (s *stress) ledger() {
	s.t.Helper()
	var l struct {
		Bytes int64
		Lines []struct {
			Kind, Path string
			Bytes      int64
		}
	}
	var sum, unowned int64
	for try := 1; ; try++ {
		text := s.must("system", "df", "-v", "--format", "{{json .Ledger}}")
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			s.t.Fatalf("%v in %.200s", err, text)
		}
		sum, unowned = 0, 0
		for _, line := range l.Lines {
			sum += line.Bytes
			if line.Kind == "" {
				unowned += line.Bytes
			}
		}
		disk := usage(s.t, filepath.Join(s.dir, "d"))
		if sum == disk && l.Bytes == disk && unowned == 0 {
			return
		}
		// Events of the last command may still be written.
		if try == 20 {
			s.t.Errorf("the ledger has %d bytes and lines of %d (%d unowned), the file system %d", l.Bytes, sum, unowned, disk)
			return
		}
	}
}

// usage adds up the allocated blocks below dir, as du does.
func usage(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it went meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
			seen[st.Ino] = true
			sum += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func filesIn(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
