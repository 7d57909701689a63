package transfer

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/imagestore"
	"lade/internal/linux/mount"
	"lade/internal/metadata"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/client"
	"lade/internal/snapshot"
)

// storeIn opens a store as an engine does when it starts.
func storeIn(dir string) (*Transfer, *snapshot.Store, func() error, error) {
	db, err := metadata.Open(filepath.Join(dir, "lade.db"), metadata.Options{Timeout: 10 * time.Second})
	if err != nil {
		return nil, nil, nil, err
	}
	blobs, err := content.Open(filepath.Join(dir, "content"))
	if err != nil {
		return nil, nil, nil, err
	}
	snaps, err := snapshot.Open(dir, snapshot.Options{Kind: mount.EROFS})
	if err != nil {
		return nil, nil, nil, err
	}
	layers := imagestore.Snapshots{Store: snaps}
	images := imagestore.New(imagestore.Config{DB: db, Content: blobs, Layers: layers})
	return New(Config{Content: blobs, Images: images, Layers: layers, Client: client.New(client.Options{}), Platform: platform.Of("linux", "amd64")}), snaps, db.Close, nil
}

// pullForever is the process that TestKilledPull kills: it pulls and removes
// images that share layers, and says what it did.
func pullForever(dir, registry string) {
	t, _, _, err := storeIn(dir)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		ref, err := reference.Parse(fmt.Sprintf("%s/x:t%d", registry, i%3))
		if err != nil {
			panic(err)
		}
		res, err := t.Pull(context.Background(), PullOptions{Ref: ref}, nil)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stdout, "pulled", ref)
		fmt.Fprintln(os.Stdout, "pulled", commitTo(t, ref, i%3))
		if _, err := t.Images.Sweep(time.Now()); err != nil {
			panic(err)
		}
		more := ref
		more.Tag = fmt.Sprint("tagged", i%3)
		if err := t.Images.Tag(res.ID, more); err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stdout, "pulled", more)
		loadAndRemove(t, i)
		if i%2 == 1 {
			fmt.Fprintln(os.Stdout, "removing", ref)
			fmt.Fprintln(os.Stdout, "removing", more)
			if _, err := t.Images.Delete(res.ID, imagestore.DeleteOptions{Named: true}); err != nil {
				panic(err)
			}
			fmt.Fprintln(os.Stdout, "removed", ref)
		}
	}
}

// loadAndRemove loads the archive, and removes what it brought every other time.
func loadAndRemove(t *Transfer, i int) {
	f, err := os.Open(os.Getenv("LADE_TEST_ARCHIVE"))
	if err != nil {
		panic(err)
	}
	defer f.Close()
	all, err := t.Load(context.Background(), f, nil)
	if err != nil {
		panic(err)
	}
	for _, name := range all[0].Names {
		fmt.Fprintln(os.Stdout, "pulled", name)
	}
	if i%2 == 1 {
		return
	}
	for _, name := range all[0].Names {
		fmt.Fprintln(os.Stdout, "removing", name)
	}
	if _, err := t.Images.Delete(all[0].ID, imagestore.DeleteOptions{Named: true}); err != nil {
		panic(err)
	}
}

// archiveOf writes an archive with an image, as the puller loads it.
func archiveOf(t *testing.T, registry string) string {
	t.Helper()
	tr, _, closeDB, err := storeIn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeDB() }()
	ref, err := reference.Parse(registry + "/x:archived")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Pull(t.Context(), PullOptions{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
	entry, err := tr.Images.Resolve(ref.Familiar())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tr.Save(t.Context(), f, []Saved{{Entry: entry, Names: []reference.Reference{ref}}}), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// kills is how many processes TestKilledPull kills.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("LADE_TEST_KILLS")
	if text == "" {
		return 25
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("LADE_TEST_KILLS=%s is no number of kills", text)
	}
	return n
}

// commitTo makes an image of the one that has the name, with one layer more.
func commitTo(t *Transfer, name reference.Reference, n int) reference.Reference {
	base, err := t.Images.Resolve(name.Familiar())
	if err != nil {
		panic(err)
	}
	name.Tag = fmt.Sprint("commit", n)
	_, err = t.Extend(context.Background(), Extension{
		Base: base.Record, Names: []reference.Reference{name},
		Layer: func(w io.Writer) (bool, error) {
			tw := tar.NewWriter(w)
			text := noise(50000, uint64(100+n))
			err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "written", Size: int64(len(text)), Mode: 0o644})
			_, err2 := io.WriteString(tw, text)
			return true, errors.Join(err, err2, tw.Close())
		},
		Config: func(top digest.Digest) ([]byte, error) {
			c := base.Config
			c.RootFS.DiffIDs = append(slices.Clone(c.RootFS.DiffIDs), top)
			return json.Marshal(c)
		},
	})
	if err != nil {
		panic(err)
	}
	return name
}

// TestKilledPull kills the engine's part at random moments of pulls, loads, tags,
// commits, garbage collections and removals: LADE_TEST_KILLS times. Afterwards every image that was pulled is there and
// whole, and a sweep leaves no byte without an owner.
func TestKilledPull(t *testing.T) {
	reg := newRegistry(t)
	base := tarOf(t, map[string]string{"base": noise(400000, 1)})
	for i := range 3 {
		reg.image(fmt.Sprint("t", i), "amd64", "gzip", base, tarOf(t, map[string]string{"top": noise(100000, uint64(2+i))}))
	}
	reg.image("archived", "amd64", "gzip", base, tarOf(t, map[string]string{"only here": noise(150000, 9)}))
	archive := archiveOf(t, reg.url)
	dir := t.TempDir()
	state := map[string]string{} // by name: the last word of the puller
	for round := range kills(t) {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), "LADE_TEST_PULLER="+dir, "LADE_TEST_REGISTRY="+reg.url, "LADE_TEST_ARCHIVE="+archive)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(20+rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for s := bufio.NewScanner(out); s.Scan(); {
			if verb, name, ok := strings.Cut(s.Text(), " "); ok {
				state[name] = verb
			}
		}
		_ = cmd.Wait()
		killer.Stop()
		verifyStore(t, dir, state, round)
	}
	if len(state) == 0 {
		t.Error("no pull ever ended: the test proves nothing")
	}
}

func verifyStore(t *testing.T, dir string, state map[string]string, round int) {
	t.Helper()
	tr, snaps, closeDB, err := storeIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeDB() }()
	if _, err := tr.Images.Sweep(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for name, verb := range state {
		// What was removed may be there again: pulled, and not yet said so.
		if _, err := tr.Images.Resolve(name); verb == "pulled" && err != nil {
			t.Errorf("round %d: %s was pulled, but: %v", round, name, err)
		}
	}
	list, err := tr.Images.List()
	if err != nil {
		t.Fatal(err)
	}
	blobs, layers := map[string]bool{}, map[string]bool{}
	for _, e := range list {
		for _, r := range e.Refs {
			blobs[string(r.Target)] = true
		}
		blobs[string(e.ID)], blobs[string(e.Manifest)] = true, true
		for _, l := range e.Record.Layers {
			blobs[string(l.Blob)], layers[string(l.DiffID)] = true, true
			if err := snaps.Verify(l.DiffID); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
	}
	all, err := tr.Content.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if err := tr.Content.Verify(b.Digest); err != nil || !blobs[string(b.Digest)] {
			t.Errorf("round %d: blob %s: owned %v, %v", round, b.Digest, blobs[string(b.Digest)], err)
		}
		delete(blobs, string(b.Digest))
	}
	if len(blobs) != 0 {
		t.Errorf("round %d: blobs are missing: %v", round, blobs)
	}
	for d, want := range map[string]int{"layers": len(layers), "content/ingest": 0, "content/trash": 0} {
		if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(left) != want {
			t.Errorf("round %d: %s holds %v, want %d files; %v", round, d, left, want, err)
		}
	}
}
