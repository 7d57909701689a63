package credentials

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

// maxFile bounds a configuration file.
const maxFile = 4 << 20

// file is a config.json of docker's or an auth.json: both have this form.
type file struct {
	path   string
	getenv func(string) string
}

// config is what of it is about credentials.
type config struct {
	Auths       map[string]entry  `json:"auths"`
	CredsStore  string            `json:"credsStore"`
	CredHelpers map[string]string `json:"credHelpers"`
}

// entry is what stands in the file itself.
type entry struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// read returns the file's configuration; that of no file is empty.
func (f file) read() (config, error) {
	var c config
	raw, err := f.bytes()
	if err != nil || len(raw) == 0 {
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, errdefs.New(errdefs.Invalid, "%s: %w", f.path, err)
	}
	return c, nil
}

func (f file) bytes() ([]byte, error) {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read credentials: %w", err)
	case info.Size() > maxFile:
		return nil, errdefs.New(errdefs.Exhausted, "%s has %d bytes, more than a configuration", f.path, info.Size())
	}
	raw, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	return bytes.TrimSpace(raw), nil
}

// helper returns the name of the helper for a registry, or "".
func (f file) helper(domain string) (string, error) {
	c, err := f.read()
	return c.helper(domain), err
}

func (c config) helper(domain string) string {
	for key, name := range c.CredHelpers {
		if Domain(key) == domain && !strings.Contains(strings.TrimSuffix(trimScheme(key), "/v1/"), "/") {
			return name
		}
	}
	return c.CredsStore
}

func trimScheme(key string) string {
	return strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
}

// lookup returns the credentials for the first of the keys that has some.
func (f file) lookup(ctx context.Context, domain string, keys []string) (registry.AuthConfig, error) {
	c, err := f.read()
	if err != nil {
		return registry.AuthConfig{}, err
	}
	if name := c.helper(domain); name != "" {
		got, err := (helper{name}).get(ctx, address(domain))
		if err != nil || got != (registry.AuthConfig{}) {
			return got, err
		}
	}
	for _, key := range keys {
		for have, e := range c.Auths {
			if e == (entry{}) || !matches(have, key) {
				continue
			}
			got, err := e.decode(domain)
			if err != nil {
				return got, fmt.Errorf("%s: %w", f.path, err)
			}
			return got, nil
		}
	}
	return registry.AuthConfig{}, nil
}

// matches reports whether a key of a file means the registry or repository.
// Docker's keys for registries have a scheme and a path at times.
func matches(have, key string) bool {
	if have == key {
		return true
	}
	return !strings.Contains(key, "/") && Domain(have) == key && (strings.Contains(have, "://") || !strings.Contains(have, "/") || strings.HasSuffix(have, "/v1/") || strings.HasSuffix(have, "/v2/"))
}

func (e entry) decode(domain string) (registry.AuthConfig, error) {
	a := registry.AuthConfig{
		Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken, ServerAddress: address(domain),
	}
	if e.Auth == "" {
		return a, nil
	}
	raw, err := base64.StdEncoding.DecodeString(e.Auth)
	user, password, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return registry.AuthConfig{}, errdefs.New(errdefs.Invalid, "the credentials for %s are not base64 of user:password", domain)
	}
	a.Username, a.Password = user, strings.Trim(password, "\x00")
	return a, nil
}

// erase takes a registry out of the file, and out of its helper. All else in
// the file stays as it is.
func (f file) erase(ctx context.Context, domain string) (bool, error) {
	c, err := f.read()
	if err != nil {
		return false, err
	}
	erased := false
	if name := c.helper(domain); name != "" {
		got, err := (helper{name}).get(ctx, address(domain))
		if err != nil {
			return false, err
		}
		if erased = got != (registry.AuthConfig{}); erased {
			if err := (helper{name}).erase(ctx, address(domain)); err != nil {
				return false, err
			}
		}
	}
	var keys []string
	for key, e := range c.Auths {
		if matches(key, domain) {
			keys = append(keys, key)
			erased = erased || e != (entry{})
		}
	}
	if len(keys) == 0 {
		return erased, nil
	}
	return erased, f.drop(keys)
}

// drop removes keys of "auths".
func (f file) drop(keys []string) error {
	raw, err := f.bytes()
	if err != nil {
		return err
	}
	var all, auths map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return errdefs.New(errdefs.Invalid, "%s: %w", f.path, err)
	}
	if err := json.Unmarshal(all["auths"], &auths); err != nil {
		return errdefs.New(errdefs.Invalid, "%s: auths: %w", f.path, err)
	}
	for _, key := range keys {
		delete(auths, key)
	}
	if all["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	out, err := json.MarshalIndent(all, "", "\t") // as docker writes it
	if err != nil {
		return err
	}
	return replace(f.path, out)
}

// replace writes a file so that it is the old one or the new one at any time.
// One that is a link stays one.
func replace(path string, data []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-credentials-") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
