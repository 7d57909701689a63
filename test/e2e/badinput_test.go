package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBadInput hands the command line what people and networks get wrong. Each
// is refused with its own exit code, a message that names the trouble, and
// leaves nothing.
func TestBadInput(t *testing.T) {
	h := newHost(t)
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	before := h.settled(nil)
	for _, tt := range []struct {
		name string
		code int
		want string
		args []string
	}{
		{"registry down", 125, "127.0.0.1:1", []string{"run", "--rm", "127.0.0.1:1/app", "true"}},
		{"pull from a registry that is down", 1, "127.0.0.1:1", []string{"pull", "127.0.0.1:1/app"}},
		{"bad image name", 125, "invalid reference", []string{"run", "--rm", "Not/A/Name", "true"}},
		{"no such image locally", 125, "no such image", []string{"run", "--rm", "--pull", "never", "absent", "true"}},
		{"unknown flag", 125, "--nope", []string{"run", "--nope", "lade/toolbox"}},
		{"unknown command", 1, "rnu", []string{"rnu", "lade/toolbox"}},
		{"bad mount", 125, "invalid", []string{"run", "--rm", "-v", "a:b:c:d:e", "lade/toolbox", "true"}},
		{"relative mount target", 125, "absolute", []string{"run", "--rm", "-v", "/tmp:relative", "lade/toolbox", "true"}},
		{"bad memory", 125, "memory", []string{"run", "--rm", "--memory", "lots", "lade/toolbox", "true"}},
		{"bad user", 126, "", []string{"run", "--rm", "--network", "none", "--user", "4294967296", "lade/toolbox", "true"}},
		{"bad capability", 125, "NOPE", []string{"run", "--rm", "--cap-add", "NOPE", "lade/toolbox", "true"}},
		{"bad name", 125, "Invalid container name", []string{"run", "--rm", "--name", "a b", "lade/toolbox", "true"}},
		{"command missing", 127, "not found in $PATH", []string{"run", "--rm", "--network", "none", "lade/toolbox", "absent"}},
		{"not executable", 126, "permission denied", []string{"run", "--rm", "--network", "none", "lade/toolbox", "/etc/passwd"}},
		{"no such container", 1, "no such container", []string{"logs", "absent"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h.with(t)
			r := h.lade(tt.args...)
			codeOK := r.code == tt.code || tt.name == "bad user" && r.code == 125
			if !codeOK || !strings.Contains(strings.ToLower(r.stderr), strings.ToLower(tt.want)) {
				t.Errorf("exit %d, want %d and a message with %q\n%s", r.code, tt.code, tt.want, r.stderr)
			}
		})
	}
	if ids := h.must("ps", "-aq"); ids != "" {
		t.Errorf("containers were left: %s", ids)
	}
	h.checkLeft(before)
}

// TestBadRegistry pulls from registries that lie.
func TestBadRegistry(t *testing.T) {
	h := newHost(t)
	layer := strings.Repeat("not a layer", 1000)
	sum := func(s string) string {
		d := sha256.Sum256([]byte(s))
		return "sha256:" + hex.EncodeToString(d[:])
	}
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + sum(layer) + `"]}}`
	manifest, _ := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sum(config), "size": len(config)},
		"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sum(layer), "size": len(layer)}},
	})
	for _, tt := range []struct {
		name, want, served string
	}{
		{"wrong digest", "digest", strings.ToUpper(layer)},
		{"truncated", "", layer[:len(layer)/2]},
		{"too long", "", layer + "more"},
		{"not a tar", "tar", layer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h.with(t)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/v2/":
				case strings.Contains(r.URL.Path, "/manifests/"):
					w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
					w.Header().Set("Docker-Content-Digest", sum(string(manifest)))
					_, _ = w.Write(manifest)
				case strings.HasSuffix(r.URL.Path, sum(config)):
					_, _ = w.Write([]byte(config))
				case strings.HasSuffix(r.URL.Path, sum(layer)):
					_, _ = w.Write([]byte(tt.served))
				default:
					http.NotFound(w, r)
				}
			}))
			defer srv.Close()
			name := strings.TrimPrefix(srv.URL, "http://") + "/app:1"
			h.refused(1, tt.want, "pull", name)
			if got := h.must("images", "-q"); got != "" {
				t.Errorf("an image was left: %s", got)
			}
		})
	}
}

// TestFullDisk pulls onto a file system that is too small, is told so, and
// pulls again when there is room.
func TestFullDisk(t *testing.T) {
	r := newRegistry(t)
	h := newHost(t)
	h.stopEngine()
	data := h.dir + "/d"
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "size=100m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.stopEngine()
		if err := unix.Unmount(data, 0); err != nil {
			t.Error(err)
		}
		h.startEngine()
	})
	h.startEngine()
	image := r.addr + "/debian:bookworm"
	h.refused(1, "no space left", "pull", image)
	if got := h.must("images", "-q"); got != "" {
		t.Errorf("an image was left: %s", got)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(data, &fs); err != nil {
		t.Fatal(err)
	}
	if free := fs.Bavail * uint64(fs.Bsize) >> 20; free < 20 {
		t.Errorf("%d MiB are free after a pull that did not fit", free)
	}
	if err := unix.Mount("tmpfs", data, "tmpfs", unix.MS_REMOUNT, "size=1g"); err != nil {
		t.Fatal(err)
	}
	h.must("pull", image)
	if got := h.must("run", "--rm", "--network", "none", image, "cat", "/etc/motd"); got != "Lade test image" {
		t.Errorf("the image says %q", got)
	}
}

// TestKilledPull kills the engine at many points of a pull; each time the
// image is either whole or not there.
func TestKilledPull(t *testing.T) {
	r := newRegistry(t)
	h := newHost(t)
	image := r.addr + "/debian:bookworm"
	for n := range 8 {
		c := h.command(t.Context(), "pull", image)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed after so many bytes of progress, another amount each time.
		_, _ = out.Read(make([]byte, 1))
		buf := make([]byte, 100)
		for range n * 2 {
			if _, err := out.Read(buf); err != nil {
				break
			}
		}
		h.killEngine()
		_ = c.Wait()
		h.startEngine()
		if h.must("images", "-q") != "" {
			got := h.must("run", "--rm", "--network", "none", image, "cat", "/etc/motd")
			if got != "Lade test image" {
				t.Errorf("killed at %d: the image says %q", n, got)
			}
			h.must("rmi", "-f", image)
		}
	}
	h.must("pull", image)
	if got := h.must("run", "--rm", "--network", "none", image, "python3", "-c", "print(6*7)"); got != "42" {
		t.Errorf("got %q", got)
	}
}
