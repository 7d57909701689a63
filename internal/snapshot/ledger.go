package snapshot

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"lade/internal/atomicfile"
	"lade/internal/ledger"
)

// Ledger answers for the layers' files; owner says whose a layer is. What
// belongs to a stack is of the stack's highest layer.
func (s *Store) Ledger(owner func(diffID digest.Digest) ledger.Owner) ledger.Source {
	return ledger.Source{Dir: s.layers, Loose: true, Owner: func(name string) ledger.Owner {
		if strings.HasPrefix(name, atomicfile.TempPrefix) {
			return ledger.Owner{Kind: ledger.Temporary}
		}
		if base, ok := s.stackOf(name); ok {
			return s.supplementOwner(base, owner)
		}
		hex, isLayer := strings.CutSuffix(name, imageSuffix)
		if !isLayer {
			hex, isLayer = strings.CutSuffix(name, dirSuffix)
		}
		diffID := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if !isLayer || check(diffID) != nil {
			return ledger.Owner{}
		}
		return owner(diffID)
	}}
}

// stackOf returns the path, without a suffix, of the stack that a file is of.
func (s *Store) stackOf(name string) (base string, ok bool) {
	if !strings.HasPrefix(name, stackPrefix) {
		return "", false
	}
	for _, suffix := range []string{stackSuffix, imageSuffix, dirSuffix} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return filepath.Join(s.layers, base), true
		}
	}
	return "", false
}

func (s *Store) supplementOwner(base string, owner func(digest.Digest) ledger.Owner) ledger.Owner {
	var r stackRecord
	b, err := os.ReadFile(base + stackSuffix)
	if err != nil || json.Unmarshal(b, &r) != nil || len(r.Layers) == 0 {
		return ledger.Owner{}
	}
	o := owner(r.Layers[len(r.Layers)-1])
	if o.Kind == ledger.Layer {
		o.Kind = ledger.Supplement
	}
	return o
}
