package contexts

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"lade/internal/errdefs"
)

// maxMeta bounds what an archive may hold of a context.
const maxMeta = 1 << 20

// Meta is a context in Docker's form: of its archives, and of inspect.
type Meta struct {
	Name      string
	Metadata  Metadata
	Endpoints map[string]Endpoint
}

// Metadata is what a person says about a context.
type Metadata struct {
	Description string `json:",omitempty"`
}

// Endpoint is where an engine listens.
type Endpoint struct {
	Host          string
	SkipTLSVerify bool
}

// endpoint is the name of the one endpoint that a context has in Docker.
const endpoint = "docker"

// Meta returns a context in Docker's form.
func (c Context) Meta() Meta {
	return Meta{Name: c.Name, Metadata: Metadata{c.Description}, Endpoints: map[string]Endpoint{endpoint: {Host: c.Host}}}
}

// Export writes a context as Docker does: a tar with one file.
func (c Context) Export(w io.Writer) error {
	raw, err := json.Marshal(c.Meta())
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.WriteHeader(&tar.Header{Name: "meta.json", Mode: 0o644, Size: int64(len(raw))}); err != nil {
		return fmt.Errorf("export context %q: %w", c.Name, err)
	}
	_, err = t.Write(raw)
	return errors.Join(err, t.Close())
}

// Import reads what Export has written, or docker. A context that needs a
// certificate is refused: no socket of Lade's does.
func Import(name string, r io.Reader) (Context, error) {
	bad := func(err error) error {
		return errdefs.New(errdefs.Invalid, "import context %q: %w", name, err)
	}
	found := Meta{}
	for t := tar.NewReader(io.LimitReader(r, 2*maxMeta)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Context{}, bad(err)
		}
		if h.Name != "meta.json" {
			continue
		}
		raw, err := io.ReadAll(io.LimitReader(t, maxMeta))
		if err != nil {
			return Context{}, bad(err)
		}
		if err := json.Unmarshal(raw, &found); err != nil {
			return Context{}, bad(err)
		}
	}
	e, ok := found.Endpoints[endpoint]
	if !ok {
		return Context{}, bad(errors.New("the archive holds no meta.json with an endpoint named docker"))
	}
	return Context{Name: name, Description: found.Metadata.Description, Host: e.Host}, CheckHost(e.Host)
}
