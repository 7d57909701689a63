package container

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"lade/internal/atomicfile"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
	"lade/internal/image/account"
	"lade/internal/shim"
)

// Explain returns the program with which the runtime would start a container,
// as text or JSON by format.
func (s *Service) Explain(ctx context.Context, ref, format string) ([]byte, error) {
	switch format {
	case "":
		format = "text"
	case "text", "json":
	default:
		return nil, errdefs.New(errdefs.Invalid, "unknown format %q; use text or json", format)
	}
	c, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	def, st := c.view()
	if !st.Alive() {
		if err := s.filesToExplain(ctx, c.id, def); err != nil {
			return nil, err
		}
	}
	// Names of users are looked up at the start; a program can be explained
	// without: where only the image knows the name, it shows as root.
	who := account.Identity{Groups: []uint32{0}, Home: "/"}
	if u, err := account.ParseUser(def.Config.User); err == nil && !u.NeedsFiles() {
		if who, err = u.Resolve(account.Files{}, nil); err != nil {
			return nil, err
		}
	}
	config, err := s.ociConfig(def, who)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.cfg.StateDir, "explain-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, shim.RootName), 0o700); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(dir, "config.json"), raw, atomicfile.Options{}); err != nil {
		return nil, err
	}
	return s.runtimeCommand(ctx, def, "explain", "--format", format, "--bundle", dir, def.ID)
}

// filesToExplain writes the files that a start would: the runtime looks at what
// it would bind. They are part of the container's directory, and go with it.
func (s *Service) filesToExplain(ctx context.Context, id string, def record.Definition) error {
	c, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	if err := os.MkdirAll(s.dataDir(id), 0o700); err != nil {
		return fmt.Errorf("make the container's directory: %w", err)
	}
	return s.writeFiles(def)
}
