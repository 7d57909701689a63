package launch

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"lade/internal/atomicfile"
	"lade/internal/engine/container/record"
	"lade/internal/image/account"
	"lade/internal/shim"
)

// Explain returns the program with which the runtime would start a container,
// as text or JSON. The files that WriteFiles makes must be there.
func (l *Launcher) Explain(ctx context.Context, def record.Definition, format string) ([]byte, error) {
	// Names of users are looked up at the start; a program can be explained
	// without: where only the image knows the name, it shows as root.
	who := account.Identity{Groups: []uint32{0}, Home: "/"}
	if u, err := account.ParseUser(def.Config.User); err == nil && !u.NeedsFiles() {
		if who, err = u.Resolve(account.Files{}, nil); err != nil {
			return nil, err
		}
	}
	config, err := l.ociConfig(def, who)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.cfg.StateDir, "explain-")
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
	return l.Command(ctx, def, "explain", "--format", format, "--bundle", dir, def.ID)
}
