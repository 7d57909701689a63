package credentials

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// sealed is a file of Lade's own store. Data is the credentials' JSON under
// AES-256-GCM, with the registry's name as additional data: a file that was
// renamed does not open, so nobody's password goes to another registry.
type sealed struct {
	Version  int
	Registry string
	Nonce    []byte
	Data     []byte
}

const (
	sealVersion = 1
	keySize     = 32
)

func (s *Store) sealedPath(domain string) (string, error) {
	dir, err := s.home("XDG_CONFIG_HOME", ".config")
	// A name has letters, digits, dots, a colon or brackets: no slash is left.
	return filepath.Join(dir, "lade", "credentials", url.PathEscape(domain)), err
}

// open returns the credentials of a registry: none is no error.
func (s *Store) open(domain string) (registry.AuthConfig, error) {
	var a registry.AuthConfig
	path, err := s.sealedPath(domain)
	if err != nil {
		return a, nil //nolint:nilerr // without a home there is nothing in it
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, fmt.Errorf("read credentials: %w", err)
	}
	useless := func(why string) error {
		return errdefs.Hint(errdefs.New(errdefs.DataLoss, "the credentials for %s cannot be opened: %s", domain, why), "log in again")
	}
	var f sealed
	if json.Unmarshal(raw, &f) != nil || f.Version != sealVersion {
		return a, useless(path + " is none of Lade's files")
	}
	key, err := s.key(false)
	if err != nil {
		return a, useless(err.Error())
	}
	gcm, err := box(key)
	if err != nil {
		return a, err
	}
	if len(f.Nonce) != gcm.NonceSize() {
		return a, useless(path + " is damaged")
	}
	plain, err := gcm.Open(nil, f.Nonce, f.Data, []byte(domain))
	if err != nil {
		return a, useless("they were sealed on another machine, for another registry, or are damaged")
	}
	if err := json.Unmarshal(plain, &a); err != nil {
		return a, useless("what was sealed is damaged")
	}
	a.ServerAddress = address(domain)
	return a, nil
}

// seal keeps the credentials of a registry in a file of its own.
func (s *Store) seal(domain string, a registry.AuthConfig) (string, error) {
	path, err := s.sealedPath(domain)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(registry.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken})
	if err != nil {
		return "", err
	}
	key, err := s.key(true)
	if err != nil {
		return "", err
	}
	gcm, err := box(key)
	if err != nil {
		return "", err
	}
	f := sealed{Version: sealVersion, Registry: domain, Nonce: make([]byte, gcm.NonceSize())}
	if _, err := rand.Read(f.Nonce); err != nil {
		return "", err
	}
	f.Data = gcm.Seal(nil, f.Nonce, plain, []byte(domain))
	raw, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("keep credentials: %w", err)
	}
	return path, replace(path, raw)
}

// remove forgets the sealed credentials of a registry.
func (s *Store) remove(domain string) (bool, error) {
	path, err := s.sealedPath(domain)
	if err != nil {
		return false, nil //nolint:nilerr // without a home there is nothing in it
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("forget credentials: %w", err)
	}
	return true, nil
}

func box(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// key returns what seals: derived from a secret of the user's, which lies apart
// from the configuration, and from the identity of the machine. It is made when
// it is first needed; of two makers, one wins.
func (s *Store) key(create bool) ([]byte, error) {
	dir, err := s.home("XDG_STATE_HOME", filepath.Join(".local", "state"))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lade", "credentials.key")
	random, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		random, err = makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	if len(random) != keySize {
		return nil, errdefs.New(errdefs.DataLoss, "the key %s is damaged", path)
	}
	machine, _ := os.ReadFile("/etc/machine-id") // not all systems have one
	return hkdf.Key(sha256.New, random, bytes.TrimSpace(machine), "lade credentials", keySize)
}

func makeKey(path string) ([]byte, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	random := make([]byte, keySize)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, ".tmp-key-") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(random)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	// A link fails where there is a key already: that one is the key then.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}
