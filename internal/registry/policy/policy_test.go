package policy

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// signed is a registry that holds signatures as cosign puts them there.
type signed struct {
	manifests map[string][]byte
	blobs     map[digest.Digest][]byte
}

func (s *signed) Manifest(_ context.Context, object string) ([]byte, ocispec.Descriptor, error) {
	raw, ok := s.manifests[object]
	if !ok {
		return nil, ocispec.Descriptor{}, errdefs.New(errdefs.NotFound, "no manifest %s", object)
	}
	return raw, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest}, nil
}

func (s *signed) Blob(_ context.Context, d ocispec.Descriptor, _ int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.blobs[d.Digest])), nil
}

// sign adds, to the image at, a signature for the image of under a name.
func (s *signed) sign(t *testing.T, key crypto.Signer, at, of digest.Digest, name string) {
	t.Helper()
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, name, of)
	sum := sha256.Sum256(payload)
	value, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if _, ok := key.(ed25519.PrivateKey); ok {
		value, err = key.Sign(rand.Reader, payload, crypto.Hash(0))
	}
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(payload)
	m := ocispec.Manifest{Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: d, Size: 2}}
	m.SchemaVersion = 2
	m.Layers = []ocispec.Descriptor{{MediaType: payloadType, Digest: d, Size: int64(len(payload)), Annotations: map[string]string{annotation: base64.StdEncoding.EncodeToString(value)}}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s.manifests[strings.Replace(string(at), ":", "-", 1)+".sig"] = raw
	s.blobs[d] = payload
}

func public(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func file(t *testing.T, text string) Files {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Files{filepath.Join(t.TempDir(), "absent"), path}
}

func TestScopes(t *testing.T) {
	f := file(t, `{"default": [{"type":"reject"}], "transports": {"docker": {
		"docker.io": [{"type":"insecureAcceptAnything"}], "docker.io/library/bad": [{"type":"reject"}],
		"docker.io/library/bad:good": [{"type":"insecureAcceptAnything"}], "*.corp.example": [{"type":"insecureAcceptAnything"}],
		"gpg.example": [{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x"}]
	}, "oci-archive": {"": [{"type":"insecureAcceptAnything"}]}}}`)
	for name, says := range map[string]string{
		"debian": "", "bad": "reject for docker docker.io/library/bad in ", "bad:good": "", "bad@sha256:" + strings.Repeat("0", 64): "reject",
		"a.b.corp.example:5000/x": "", "corp.example/x": "reject for the default", "quay.io/x": "reject for the default", "gpg.example/x": "cannot check",
	} {
		ref, err := reference.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Check(t.Context(), ref, nil)
		if (err == nil) != (says == "") || err != nil && (!errdefs.Is(err, errdefs.Denied) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
	if err := f.CheckArchive(); err != nil {
		t.Error(err)
	}
	if err := file(t, `{"default": [{"type":"reject"}]}`).CheckArchive(); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("archives: %v", err)
	}
	ref, _ := reference.Parse("x")
	if err := (Files{"/no/such/file"}).Check(t.Context(), ref, nil); err != nil {
		t.Errorf("without a policy: %v", err)
	}
	for _, bad := range []string{"", "{}", "[]", `{"default":[]}`, `{"default":[{"type":"accept"}]}`, `{"default":[{"type":"reject"}],"transports":{"docker":{"x":[{"type":"sigstoreSigned","signedIdentity":{"type":"any"}}]}}}`} {
		if err := file(t, bad).Check(t.Context(), ref, nil); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSignatures(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	image, index, another := digest.FromString("image"), digest.FromString("index"), digest.FromString("another")
	const name = "reg.example/team/app"
	policy := func(key crypto.Signer, identity string) Files {
		if identity != "" {
			identity = `,"signedIdentity":` + identity
		}
		return file(t, `{"default":[{"type":"sigstoreSigned","keyData":"`+base64.StdEncoding.EncodeToString(public(t, key))+`"`+identity+`}]}`)
	}
	repo := `{"type":"matchRepository"}`
	tests := []struct {
		what     string
		key      crypto.Signer
		identity string
		at, of   digest.Digest
		name     string
		says     string // "": allowed
	}{
		{"ecdsa", ec, "", image, image, name + ":1", ""},
		{"rsa", rs, "", image, image, name + ":1", ""},
		{"ed25519", ed, "", image, image, name + ":1", ""},
		{"the index is signed", ec, "", index, index, name + ":1", ""},
		{"no tag", ec, "", image, image, name, "for the name"},
		{"no tag, repository", ec, repo, image, image, name, ""},
		{"another tag", ec, "", image, image, name + ":2", "for the name"},
		{"another name", ec, repo, image, image, "reg.example/team/other", "for the name"},
		{"moved", ec, `{"type":"remapIdentity","prefix":"reg.example","signedPrefix":"origin.example"}`, image, image, "origin.example/team/app:1", ""},
		{"one for all", ec, `{"type":"exactRepository","dockerRepository":"x.example/y"}`, image, image, "x.example/y:3", ""},
		{"another image", ec, repo, image, another, name, "another image"},
		{"another key", other, "", image, image, name + ":1", "made none"},
		{"none", ec, "", another, another, name + ":1", "no signature"},
	}
	for _, tt := range tests {
		s := &signed{map[string][]byte{}, map[digest.Digest][]byte{}}
		by := tt.key
		if tt.what == "another key" {
			by = ec
		}
		s.sign(t, by, tt.at, tt.of, tt.name)
		ref, err := reference.Parse(name + ":1")
		if err != nil {
			t.Fatal(err)
		}
		err = policy(tt.key, tt.identity).Check(t.Context(), ref, s, index, image)
		if (err == nil) != (tt.says == "") || err != nil && (!errdefs.Is(err, errdefs.Denied) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "the rule sigstoreSigned for the default in ")) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.says)
		}
	}
	// A payload that was changed after it was signed.
	s := &signed{map[string][]byte{}, map[digest.Digest][]byte{}}
	s.sign(t, ec, image, image, name+":1")
	for d, p := range s.blobs {
		s.blobs[d] = bytes.Replace(p, []byte("null"), []byte("{}"), 1)
	}
	ref, _ := reference.Parse(name + ":1")
	if err := policy(ec, "").Check(t.Context(), ref, s, image); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("changed payload: %v", err)
	}
	if err := file(t, `{"default":[{"type":"sigstoreSigned"}]}`).Check(t.Context(), ref, s, image); !errdefs.Is(err, errdefs.Denied) {
		t.Errorf("no key: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"default":[{"type":"reject"}]}`))
	f.Add([]byte(`{"default":[{"type":"sigstoreSigned","keyData":"eA==","signedIdentity":{"type":"matchExact"}}],"transports":{"docker":{"x":[]}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if d, err := parse(raw); err == nil && len(d.Default) == 0 {
			t.Fatal("a policy without default rules was taken")
		}
	})
}
