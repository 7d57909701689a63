package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lade/internal/errdefs"
)

// Certs are directories in which each registry may have one, of its host and
// port, with certificates: *.crt of authorities to trust beside the machine's,
// and *.cert with *.key to show.
type Certs []string

// TLS returns how to speak TLS with a registry, or nil: as with everybody.
func (c Certs) TLS(host string) (*tls.Config, error) {
	if strings.ContainsAny(host, "/\\") || strings.Contains(host, "..") {
		return nil, errdefs.New(errdefs.Invalid, "%q is no host", host)
	}
	var t *tls.Config
	for _, dir := range c {
		dir = filepath.Join(dir, host)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", host, err)
		}
		if t == nil {
			t = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		for _, e := range entries {
			if err := take(t, filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("certificates for %s: %w", host, err)
			}
		}
	}
	return t, nil
}

// take adds one file to t.
func take(t *tls.Config, file string) error {
	switch filepath.Ext(file) {
	case ".crt":
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if t.RootCAs == nil {
			if t.RootCAs, err = x509.SystemCertPool(); err != nil {
				t.RootCAs = x509.NewCertPool()
			}
		}
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return errdefs.New(errdefs.Invalid, "%s holds no certificate", file)
		}
	case ".cert":
		key := strings.TrimSuffix(file, ".cert") + ".key"
		pair, err := tls.LoadX509KeyPair(file, key)
		if errors.Is(err, fs.ErrNotExist) {
			return errdefs.Hint(errdefs.New(errdefs.Invalid, "%s has no key", file), "put it into %s; authorities' certificates end in .crt", key)
		}
		if err != nil {
			return errdefs.New(errdefs.Invalid, "%s: %w", file, err)
		}
		t.Certificates = append(t.Certificates, pair)
	case ".key":
		cert := strings.TrimSuffix(file, ".key") + ".cert"
		if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
			return errdefs.Hint(errdefs.New(errdefs.Invalid, "%s has no certificate", file), "put it into %s", cert)
		}
	}
	return nil
}
