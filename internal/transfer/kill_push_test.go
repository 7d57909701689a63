package transfer

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/client"
)

// pushForever is the process that TestKilledPush kills.
func pushForever(dir, name, to string) {
	t, _, _, err := storeIn(dir)
	if err != nil {
		panic(err)
	}
	e, err := t.Images.Resolve(name)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		ref, err := reference.Parse(fmt.Sprintf("%s/p%d-%d/x:t", to, os.Getpid(), i))
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stdout, "begins", ref)
		res, err := t.Push(context.Background(), PushOptions{Ref: ref, Entry: e, Manifest: e.Manifest, Target: e.Manifest}, nil)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(os.Stdout, "pushed", ref, res.Digest)
	}
}

// TestKilledPush kills pushes at random moments: what was reported is in the
// registry, whole; a tag that was not leads to nothing or to the whole image;
// and the store is as before.
func TestKilledPush(t *testing.T) {
	from := newRegistry(t)
	from.image("one", "amd64", image.Gzip, tarOf(t, map[string]string{"a": noise(900000, 1)}), tarOf(t, map[string]string{"b": noise(90000, 2)}))
	dir, to := t.TempDir(), dockerRegistry(t)
	name := from.url + "/x:one"
	tr, _, closeDB, err := storeIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.Pull(t.Context(), PullOptions{Ref: ref}, nil)
	if err != nil || closeDB() != nil {
		t.Fatal(err)
	}
	whole, half := 0, 0
	for round := range 15 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), "LADE_TEST_PUSHER="+dir, "LADE_TEST_NAME="+name, "LADE_TEST_REGISTRY="+to)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killer := time.AfterFunc(time.Duration(20+rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		begun, state := "", map[string]string{name: "pulled"}
		for s := bufio.NewScanner(out); s.Scan(); {
			f := strings.Fields(s.Text())
			if begun = f[1]; f[0] == "pushed" {
				state[f[1]+"@"+f[2]] = "pulled" // the digest is a name that must be there
				if !inRegistry(t, f[1], res.Manifest) {
					t.Errorf("round %d: %s was reported and is not there", round, f[1])
				}
				whole++
				begun = ""
			}
		}
		_ = cmd.Wait()
		killer.Stop()
		if begun != "" && !inRegistry(t, begun, res.Manifest) {
			half++
		}
		for n := range state { // a name with tag and digest is no name of the store
			if i := strings.Index(n, ":t@"); i > 0 {
				delete(state, n)
				state[n[:i]+n[i+2:]] = "pulled"
			}
		}
		verifyStore(t, dir, state, round)
	}
	if whole == 0 || half == 0 {
		t.Errorf("%d pushes ended and %d did not: the test proves nothing", whole, half)
	}
}

// inRegistry reports whether a registry has an image, whole. One that has only
// a part of it under the tag is an error.
func inRegistry(t *testing.T, name string, want digest.Digest) bool {
	t.Helper()
	ref, err := reference.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(client.Options{})
	defer c.Close()
	repo, err := c.Repository(ref, auth.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	raw, d, err := repo.Manifest(t.Context(), ref.Tag)
	if err != nil {
		return false
	}
	blobs, _, err := image.Refers(raw, d.MediaType)
	if err != nil || d.Digest != want {
		t.Errorf("%s is %s, %v", name, d.Digest, err)
	}
	for _, b := range blobs {
		if ok, err := repo.HasBlob(t.Context(), b); !ok || err != nil {
			t.Errorf("%s lacks %s, %v", name, b.Digest, err)
		}
	}
	return true
}
