package content

import (
	"github.com/opencontainers/go-digest"

	"lade/internal/ledger"
	"lade/internal/reference"
)

// Ledger answers for the store's files; owner says whose a blob is.
func (s *Store) Ledger(owner func(digest.Digest) ledger.Owner) []ledger.Source {
	passing := func(string) ledger.Owner { return ledger.Owner{Kind: ledger.Temporary} }
	sources := []ledger.Source{{Dir: s.ingestDir(), Owner: passing}, {Dir: s.trashDir(), Owner: passing}}
	for _, alg := range []string{"sha256", "sha512"} {
		sources = append(sources, ledger.Source{Dir: s.blobDir(alg), Owner: func(name string) ledger.Owner {
			d := digest.Digest(alg + ":" + name)
			if reference.CheckDigest(d) != nil {
				return ledger.Owner{}
			}
			return owner(d)
		}})
	}
	return sources
}
