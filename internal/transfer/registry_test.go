package transfer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/imagestore"
	"lade/internal/linux/mount"
	"lade/internal/metadata"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/client"
	"lade/internal/snapshot"
)

// tool runs a program that is not ours.
func tool(tb testing.TB, args ...string) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), args[0], args[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s (apt-get install docker-registry skopeo umoci): %v\n%s", strings.Join(args, " "), err, out)
	}
}

// dockerRegistry starts Debian's registry and returns its address.
func dockerRegistry(tb testing.TB) string {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := tb.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: '%s'}\n", dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), "docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		tb.Fatalf("docker-registry (apt-get install docker-registry): %v", err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		c, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		<-tick.C
	}
	tb.Fatal("docker-registry does not answer")
	return ""
}

// real is a Transfer whose layers are real EROFS files.
func real(tb testing.TB) (*Transfer, string) {
	tb.Helper()
	dir := tb.TempDir()
	db, err := metadata.Open(filepath.Join(dir, "lade.db"), metadata.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	blobs, err := content.Open(filepath.Join(dir, "content"))
	if err != nil {
		tb.Fatal(err)
	}
	snaps, err := snapshot.Open(dir, snapshot.Options{Kind: mount.EROFS})
	if err != nil {
		tb.Fatal(err)
	}
	layers := imagestore.Snapshots{Store: snaps}
	c := client.New(client.Options{})
	tb.Cleanup(c.Close)
	images := imagestore.New(imagestore.Config{DB: db, Content: blobs, Layers: layers})
	tb.Cleanup(func() { _ = images.Close() })
	return New(Config{Content: blobs, Images: images, Layers: layers, Client: c, Platform: platform.Of("linux", "amd64")}), dir
}

// umociLayout makes an OCI layout with an image of the given tars by umoci.
func umociLayout(tb testing.TB, tars ...[]byte) string {
	tb.Helper()
	dir := tb.TempDir()
	oci := filepath.Join(dir, "oci")
	tool(tb, "umoci", "init", "--layout", oci)
	tool(tb, "umoci", "new", "--image", oci+":tag")
	for i, b := range tars {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			tb.Fatal(err)
		}
		tool(tb, "umoci", "raw", "add-layer", "--image", oci+":tag", name)
	}
	tool(tb, "umoci", "config", "--image", oci+":tag", "--config.cmd", "sh", "--os", "linux", "--architecture", "amd64")
	return oci
}

// TestRealRegistry pulls what independent tools packed and pushed, in every
// form that they know, and loads their archives: always the same image.
func TestRealRegistry(t *testing.T) {
	addr := dockerRegistry(t)
	oci := umociLayout(t, tarOf(t, map[string]string{"etc/a": noise(300000, 1)}), tarOf(t, map[string]string{"etc/b": "b", "etc/.wh.a": ""}))
	policy := []string{"skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"}
	dir := t.TempDir()
	for _, args := range [][]string{
		{"oci:" + oci + ":tag", "docker://" + addr + "/lade/test:oci"},
		{"--format", "v2s2", "oci:" + oci + ":tag", "docker://" + addr + "/lade/test:docker"},
		{"--dest-compress-format", "zstd", "oci:" + oci + ":tag", "docker://" + addr + "/lade/zstd:oci"},
		{"oci:" + oci + ":tag", "oci-archive:" + dir + "/oci.tar:docker.io/lade/test:archive"},
		{"oci:" + oci + ":tag", "docker-archive:" + dir + "/docker.tar:lade/test:dockerarchive"},
	} {
		tool(t, append(policy, args...)...)
	}
	f, root := real(t)
	ids := map[string]bool{}
	check := func(name string) {
		e, err := f.Images.Resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		ids[strings.Join(digests(e), " ")] = true
		if len(e.Record.Layers) != 2 || e.Record.UnpackedSize() < 300000 {
			t.Errorf("%s: layers %+v", name, e.Record.Layers)
		}
	}
	for _, name := range []string{addr + "/lade/test:oci", addr + "/lade/test:docker", addr + "/lade/zstd:oci"} {
		ref, err := reference.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Pull(t.Context(), PullOptions{Ref: ref}, nil); err != nil {
			t.Fatal(err)
		}
		check(name)
	}
	for file, name := range map[string]string{"oci.tar": "lade/test:archive", "docker.tar": "lade/test:dockerarchive"} {
		r, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Load(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		check(name)
	}
	if len(ids) != 1 {
		t.Errorf("the same image in five forms has the layers %v", ids)
	}
	if layers, err := filepath.Glob(filepath.Join(root, "layers", "*.erofs")); err != nil || len(layers) != 2 {
		t.Errorf("layers on disk: %q, %v", layers, err)
	}
	// Nothing is left when all images are gone.
	list, err := f.Images.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if _, err := f.Images.Delete(e.ID, imagestore.DeleteOptions{Named: true}); err != nil {
			t.Error(err)
		}
	}
	if err := f.Images.Reclaim(); err != nil {
		t.Error(err)
	}
	for _, d := range []string{"layers", "content/blobs/sha256", "content/ingest", "content/trash"} {
		if left, err := os.ReadDir(filepath.Join(root, d)); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", d, left, err)
		}
	}
	ref, _ := reference.Parse(addr + "/lade/test:nosuch")
	if _, err := f.Pull(t.Context(), PullOptions{Ref: ref}, nil); !errdefs.Is(err, errdefs.NotFound) || !strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("no such tag: %v", err)
	}
}

func digests(e imagestore.Entry) []string {
	var all []string
	for _, d := range e.Config.RootFS.DiffIDs {
		all = append(all, string(d))
	}
	return all
}

// BenchmarkPull pulls an image of four layers, 64 MiB each, half of it noise,
// from a registry in this process; bytes are counted unpacked.
func BenchmarkPull(b *testing.B) {
	const size = 16 << 20
	reg := newRegistry(b)
	var tars [][]byte
	for i := range 4 {
		files := map[string]string{}
		for n := range 64 {
			half := noise(size/128, uint64(64*i+n))
			files[fmt.Sprintf("f%d", n)] = half + strings.Repeat("text that packs well\n", len(half)/21)
		}
		tars = append(tars, tarOf(b, files))
	}
	reg.image("tag", "amd64", "gzip", tars...)
	ref, err := reference.Parse(reg.url + "/x:tag")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4 * size)
	for b.Loop() {
		f, _ := real(b)
		if _, err := f.Pull(b.Context(), PullOptions{Ref: ref}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// TestHostileLayer: a layer that no file system should hold is
// refused by the layer store, and nothing of its image stays.
func TestHostileLayer(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/"}, {Name: "a/../../etc/passwd", Typeflag: tar.TypeReg, Size: 1}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	reg := newRegistry(t)
	reg.image("tag", "amd64", "gzip", buf.Bytes())
	f, root := real(t)
	ref, _ := reference.Parse(reg.url + "/x:tag")
	_, err := f.Pull(t.Context(), PullOptions{Ref: ref}, nil)
	if !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("error = %v", err)
	}
	if err := f.Images.Reclaim(); err != nil {
		t.Error(err)
	}
	for _, d := range []string{"layers", "content/blobs/sha256", "content/ingest", "content/trash"} {
		if left, err := os.ReadDir(filepath.Join(root, d)); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", d, left, err)
		}
	}
}
