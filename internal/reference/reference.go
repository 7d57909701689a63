// Package reference parses the names that people give to images, and brings
// them to one form. It is pure.
//
// A reference is name[:tag][@digest]. The name's first part is a registry if
// it looks like a host (it has a dot, a colon or capitals, or is "localhost");
// otherwise the name is of docker.io, and one without a slash of its library.
// So "debian" is docker.io/library/debian:latest. The short form, as people
// type and read it, is the familiar one; the whole form is the canonical one.
// The grammar is github.com/distribution/reference's, which is Docker's.
//
// What people type may also be the id of an image, whole or in part; ParseAny
// says what a text may be.
package reference

import (
	"crypto/sha256" // known to go-digest only if linked
	"crypto/sha512"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/ident"
)

// The algorithms of digests must be in the program before go-digest accepts
// their names.
var (
	_ = sha256.Size
	_ = sha512.Size
)

// DefaultTag is the tag of a name that has neither tag nor digest.
const DefaultTag = "latest"

// maxLen bounds a reference's length: far above any real one, and below what
// would make the grammar's regular expressions slow.
const maxLen = 4096

// Reference names an image in a repository of a registry. The zero value names
// nothing. References are comparable.
type Reference struct {
	// Domain is the registry's host, with its port if it has one: docker.io.
	Domain string
	// Path is the repository in the registry: library/debian.
	Path string
	// Tag is empty for a reference by digest only.
	Tag string
	// Digest is empty for a reference by tag only.
	Digest digest.Digest
}

// Parse reads a reference in familiar or canonical form. One with neither tag
// nor digest gets DefaultTag.
func Parse(s string) (Reference, error) {
	r, err := ParseName(s)
	if err == nil && r.Tag == "" && r.Digest == "" {
		r.Tag = DefaultTag
	}
	return r, err
}

// ParseName is Parse without the default tag: a bare name stays bare.
func ParseName(s string) (Reference, error) {
	if len(s) > maxLen {
		return Reference{}, errdefs.New(errdefs.Invalid, "invalid reference format: longer than %d characters", maxLen)
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, invalid(s, err)
	}
	r := Reference{Domain: reference.Domain(named), Path: reference.Path(named)}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		if err := CheckDigest(d.Digest()); err != nil {
			return Reference{}, err
		}
		r.Digest = d.Digest()
	}
	return r, nil
}

// invalid says why s is no reference. Docker's clients know the words.
func invalid(s string, err error) error {
	msg := err.Error()
	if !strings.Contains(msg, "invalid reference format") && !strings.Contains(msg, "invalid repository name") {
		msg = "invalid reference format: " + msg
	}
	if s == "" {
		return errdefs.New(errdefs.Invalid, "invalid reference format: the name is empty")
	}
	return errdefs.New(errdefs.Invalid, "%q: %s", s, msg)
}

// CheckDigest reports whether d is a digest that Lade works with: sha256 or
// sha512, in lower-case hexadecimal, of the right length. A digest that passes
// is safe as a part of a path.
func CheckDigest(d digest.Digest) error {
	alg, hex, ok := strings.Cut(string(d), ":")
	want := 0
	switch alg {
	case "sha256":
		want = 2 * sha256.Size
	case "sha512":
		want = 2 * sha512.Size
	default:
		if ok {
			return errdefs.New(errdefs.Invalid, "digest %.80q: the algorithm is not sha256 or sha512", string(d))
		}
	}
	if !ok || len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return errdefs.New(errdefs.Invalid, "digest %.80q is malformed", string(d))
	}
	return nil
}

// String returns the canonical form, such as docker.io/library/debian:latest.
func (r Reference) String() string { return r.suffix(r.Name()) }

// Name returns the canonical repository, such as docker.io/library/debian.
func (r Reference) Name() string {
	if r.Domain == "" {
		return r.Path
	}
	return r.Domain + "/" + r.Path
}

// Familiar returns the short form, such as debian:latest.
func (r Reference) Familiar() string { return r.suffix(r.FamiliarName()) }

// FamiliarName returns the short form of the repository, such as debian.
func (r Reference) FamiliarName() string {
	if r.Domain != "docker.io" {
		return r.Name()
	}
	if short, ok := strings.CutPrefix(r.Path, "library/"); ok && !strings.Contains(short, "/") {
		return short
	}
	return r.Path
}

func (r Reference) suffix(name string) string {
	if r.Tag != "" {
		name += ":" + r.Tag
	}
	if r.Digest != "" {
		name += "@" + string(r.Digest)
	}
	return name
}

// WithDigest returns the reference by digest only to the same repository.
func (r Reference) WithDigest(d digest.Digest) Reference {
	return Reference{Domain: r.Domain, Path: r.Path, Digest: d}
}

// Object returns what a registry is asked for: the digest if there is one,
// otherwise the tag.
func (r Reference) Object() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}

// Any is what a text that should name an image may mean. A text can be more
// than one: "cafe" is a name and may begin an id.
type Any struct {
	ID       digest.Digest // a whole id: sha256: and 64 digits, or the 64 digits
	IDPrefix string        // hexadecimal digits that an id may begin with
	Ref      Reference     // a name
	HasRef   bool
}

// ParseAny reads a name or an id. Names win over beginnings of ids where both
// exist, as in Docker.
func ParseAny(s string) (Any, error) {
	if hex, ok := strings.CutPrefix(s, "sha256:"); ok && ident.IsPrefix(hex) {
		return ofHex(hex), nil
	}
	if ident.IsID(s) {
		return ofHex(s), nil
	}
	a := Any{}
	if ident.IsPrefix(s) {
		a.IDPrefix = s
	}
	ref, err := Parse(s)
	if err != nil {
		return Any{}, err
	}
	a.Ref, a.HasRef = ref, true
	return a, nil
}

func ofHex(hex string) Any {
	if ident.IsID(hex) {
		return Any{ID: digest.Digest("sha256:" + hex), IDPrefix: hex}
	}
	return Any{IDPrefix: hex}
}
