package policy

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
)

// Registry is where an image and its signatures are.
type Registry interface {
	Manifest(ctx context.Context, object string) ([]byte, ocispec.Descriptor, error)
	Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Where and how sigstore's tools keep signatures: as layers of an image whose
// tag is made of the signed digest.
const (
	payloadType   = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotation    = "dev.cosignproject.cosign/signature"
	maxPayload    = 4 << 20
	maxSignatures = 64
)

// Check returns nil if an image may come in: its manifest, or the index that
// leads to it, has one of the digests. The error names the rule that fails.
func (f Files) Check(ctx context.Context, ref reference.Reference, from Registry, digests ...digest.Digest) error {
	rules, err := f.Image(ref)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if err := r.allows(ctx, ref, from, digests); err != nil {
			return fmt.Errorf("not allowed by the rule %s: %w", r, err)
		}
	}
	return nil
}

// CheckArchive returns nil if images may come in from archives, which hold no
// signatures.
func (f Files) CheckArchive() error {
	rules, err := f.Archive()
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Type != "insecureAcceptAnything" {
			return errdefs.New(errdefs.Denied, "not allowed by the rule %s", r)
		}
	}
	return nil
}

func (r Rule) allows(ctx context.Context, ref reference.Reference, from Registry, digests []digest.Digest) error {
	switch r.Type {
	case "insecureAcceptAnything":
		return nil
	case "reject":
		return errdefs.With(errdefs.Denied, errors.New("it rejects all images"))
	case "sigstoreSigned":
	default:
		return errdefs.New(errdefs.Denied, "Lade cannot check it")
	}
	keys, err := r.keys()
	if err != nil {
		return err
	}
	why := errdefs.With(errdefs.Denied, errors.New("there is no signature"))
	for _, d := range digests {
		all, err := signatures(ctx, from, d)
		if err != nil {
			return err
		}
		for _, s := range all {
			if why = r.accepts(s, keys, ref, d); why == nil {
				return nil
			}
		}
	}
	return why
}

// keys reads the public keys of a rule: any of them will do.
func (r Rule) keys() ([]crypto.PublicKey, error) {
	var texts [][]byte
	paths := r.KeyPaths
	if r.KeyPath != "" {
		paths = append(paths, r.KeyPath)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, errdefs.New(errdefs.Denied, "read its key: %w", err)
		}
		texts = append(texts, text)
	}
	if r.KeyData != "" {
		text, err := base64.StdEncoding.DecodeString(r.KeyData)
		if err != nil {
			return nil, errdefs.New(errdefs.Denied, "its keyData: %w", err)
		}
		texts = append(texts, text)
	}
	var keys []crypto.PublicKey
	for _, text := range texts {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, errdefs.New(errdefs.Denied, "its key is not in PEM")
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errdefs.New(errdefs.Denied, "its key: %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errdefs.New(errdefs.Denied, "it names no key that Lade can use: keyPath, keyPaths or keyData")
	}
	return keys, nil
}

// signature is one of an image's, not yet believed.
type signature struct{ payload, value []byte }

// signatures fetches those of one digest.
func signatures(ctx context.Context, from Registry, d digest.Digest) ([]signature, error) {
	raw, desc, err := from.Manifest(ctx, strings.Replace(string(d), ":", "-", 1)+".sig")
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch signatures: %w", err)
	}
	layers, _, err := image.Refers(raw, desc.MediaType)
	if err != nil {
		return nil, fmt.Errorf("signatures: %w", err)
	}
	var all []signature
	for _, l := range layers {
		text := l.Annotations[annotation]
		if l.MediaType != payloadType || text == "" || l.Size > maxPayload || len(all) == maxSignatures {
			continue
		}
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		body, err := from.Blob(ctx, l, 0)
		if err != nil {
			return nil, fmt.Errorf("fetch signatures: %w", err)
		}
		payload, err := io.ReadAll(io.LimitReader(body, maxPayload))
		_ = body.Close()
		if err != nil {
			return nil, fmt.Errorf("fetch signatures: %w", err)
		}
		all = append(all, signature{payload, value})
	}
	return all, nil
}

// accepts checks the signature first, and reads what was signed after that.
func (r Rule) accepts(s signature, keys []crypto.PublicKey, ref reference.Reference, d digest.Digest) error {
	good := false
	for _, k := range keys {
		good = good || verify(k, s.payload, s.value)
	}
	if !good {
		return errdefs.With(errdefs.Denied, errors.New("its key made none of the signatures"))
	}
	var p struct {
		Critical struct {
			Identity struct {
				Reference string `json:"docker-reference"`
			} `json:"identity"`
			Image struct {
				Digest digest.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(s.payload, &p); err != nil {
		return errdefs.New(errdefs.Denied, "what was signed is not JSON: %w", err)
	}
	switch {
	case p.Critical.Type != "cosign container image signature":
		return errdefs.New(errdefs.Denied, "what was signed is %.100q", p.Critical.Type)
	case p.Critical.Image.Digest != d:
		return errdefs.New(errdefs.Denied, "the signature is for another image, %.100q", p.Critical.Image.Digest)
	case !r.identity().matches(ref, p.Critical.Identity.Reference):
		return errdefs.Hint(errdefs.New(errdefs.Denied, "the signature is for the name %.200q", p.Critical.Identity.Reference), "signatures that name no tag want signedIdentity matchRepository")
	}
	return nil
}

func verify(key crypto.PublicKey, payload, value []byte) bool {
	sum := sha256.Sum256(payload)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], value)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], value) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, payload, value)
	}
	return false
}

func (r Rule) identity() Identity {
	if r.SignedIdentity == nil {
		return Identity{Type: "matchRepoDigestOrExact"}
	}
	return *r.SignedIdentity
}

// matches reports whether a signature for a name is one for ref.
func (i Identity) matches(ref reference.Reference, signed string) bool {
	s, err := reference.ParseName(signed)
	if err != nil {
		return false
	}
	exact := s.Tag == ref.Tag && s.Digest == ref.Digest && (s.Tag != "" || s.Digest != "")
	switch i.Type {
	case "matchExact":
		return s.Name() == ref.Name() && exact
	case "matchRepoDigestOrExact":
		return s.Name() == ref.Name() && (ref.Digest != "" || exact)
	case "matchRepository":
		return s.Name() == ref.Name()
	case "exactReference":
		want, err := reference.ParseName(i.DockerReference)
		return err == nil && want == s
	case "exactRepository":
		want, err := reference.ParseName(i.DockerRepository)
		return err == nil && want.Name() == s.Name()
	case "remapIdentity":
		name := ref.Name()
		if rest, ok := strings.CutPrefix(name, i.Prefix); ok && (rest == "" || rest[0] == '/') {
			name = i.SignedPrefix + rest
		}
		want, err := reference.ParseName(name)
		return err == nil && s.Name() == want.Name() && (ref.Digest != "" || exact)
	}
	return false
}
