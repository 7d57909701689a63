// Package policy decides which images may come in, by the rules that an
// administrator wrote into policy.json (containers-policy.json(5), as podman,
// skopeo and CRI-O read it): accept anything, reject, or demand a signature of
// sigstore's kind by a key. All rules of the scope that is closest must hold.
//
// Rules that Lade cannot check are refused, never passed over.
package policy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// Files are where the rules may be; the first that is there counts. They are
// read for each decision.
type Files []string

// maxFile bounds a policy file and a key.
const maxFile = 1 << 20

type document struct {
	Default    []Rule                       `json:"default"`
	Transports map[string]map[string][]Rule `json:"transports"`
}

// Rule is one requirement.
type Rule struct {
	Type     string   `json:"type"`
	KeyPath  string   `json:"keyPath"`
	KeyPaths []string `json:"keyPaths"`
	KeyData  string   `json:"keyData"`
	// SignedIdentity says what name the signature must be for.
	SignedIdentity *Identity `json:"signedIdentity"`

	scope, file string
}

// Identity is how the name in a signature is compared.
type Identity struct {
	Type             string `json:"type"`
	DockerReference  string `json:"dockerReference"`
	DockerRepository string `json:"dockerRepository"`
	Prefix           string `json:"prefix"`
	SignedPrefix     string `json:"signedPrefix"`
}

// String names the rule, for messages.
func (r Rule) String() string { return fmt.Sprintf("%s for %s in %s", r.Type, r.scope, r.file) }

// Image returns the rules for an image of a registry.
func (f Files) Image(ref reference.Reference) ([]Rule, error) {
	return f.rules("docker", scopes(ref))
}

// Archive returns the rules for images from archives.
func (f Files) Archive() ([]Rule, error) { return f.rules("oci-archive", []string{""}) }

func (f Files) rules(transport string, scopes []string) ([]Rule, error) {
	d, file, err := f.read()
	if err != nil || file == "" {
		return nil, err
	}
	rules, scope := d.Default, "the default"
	for _, s := range scopes {
		if found, ok := d.Transports[transport][s]; ok {
			rules, scope = found, transport+" "+s
			break
		}
	}
	if len(rules) == 0 {
		return nil, errdefs.New(errdefs.Denied, "%s: there are no rules for %s", file, scope)
	}
	all := make([]Rule, len(rules))
	for i, r := range rules {
		r.scope, r.file = strings.TrimSpace(scope), file
		all[i] = r
	}
	return all, nil
}

// read returns the rules that count, and where they are; "": there are none.
func (f Files) read() (document, string, error) {
	for _, path := range f {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Size() > maxFile {
			err = errdefs.New(errdefs.Exhausted, "it has %d bytes", info.Size())
		}
		var raw []byte
		if err == nil {
			raw, err = os.ReadFile(path)
		}
		var d document
		if err == nil {
			d, err = parse(raw)
		}
		if err != nil {
			return d, path, fmt.Errorf("which images may come in: %s: %w", path, err)
		}
		return d, path, nil
	}
	return document{}, "", nil
}

// parse reads a policy. A field that it does not know may be a rule: refused.
func parse(raw []byte) (document, error) {
	var d document
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&d); err != nil {
		return d, errdefs.New(errdefs.Invalid, "%w", err)
	}
	if len(d.Default) == 0 {
		return d, errdefs.With(errdefs.Invalid, errors.New("it has no default rules"))
	}
	all := [][]Rule{d.Default}
	for _, scopes := range d.Transports {
		for _, rules := range scopes {
			all = append(all, rules)
		}
	}
	for _, rules := range all {
		for _, r := range rules {
			if err := r.check(); err != nil {
				return d, err
			}
		}
	}
	return d, nil
}

func (r Rule) check() error {
	switch r.Type {
	case "insecureAcceptAnything", "reject", "signedBy":
		return nil
	case "sigstoreSigned":
	default:
		return errdefs.New(errdefs.Invalid, "a rule of type %.100q", r.Type)
	}
	if r.KeyData != "" {
		if _, err := base64.StdEncoding.DecodeString(r.KeyData); err != nil {
			return errdefs.New(errdefs.Invalid, "sigstoreSigned: keyData: %w", err)
		}
	}
	if i := r.SignedIdentity; i != nil {
		switch i.Type {
		case "matchExact", "matchRepoDigestOrExact", "matchRepository", "exactReference", "exactRepository", "remapIdentity":
		default:
			return errdefs.New(errdefs.Invalid, "sigstoreSigned: signedIdentity of type %.100q", i.Type)
		}
	}
	return nil
}

// scopes returns what may stand for an image of a registry, the closest first.
func scopes(ref reference.Reference) []string {
	var all []string
	name := ref.Name()
	if ref.Digest != "" {
		all = append(all, name+"@"+string(ref.Digest))
	} else if ref.Tag != "" {
		all = append(all, name+":"+ref.Tag)
	}
	for {
		all = append(all, name)
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	host, _, _ := strings.Cut(ref.Domain, ":")
	for {
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			break
		}
		all = append(all, "*."+rest)
		host = rest
	}
	return append(all, "")
}
