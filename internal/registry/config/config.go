// Package config says where repositories are: what an administrator wrote into
// registries.conf (version 2, as podman, skopeo and CRI-O read it) and certs.d.
//
// A registry table speaks of all references that begin with its prefix; of
// several, the longest counts. It may block them, move them to another
// location, name mirrors to try first, and allow plain HTTP or certificates
// that nobody vouches for.
//
// Files are read each time that somebody asks: what is edited counts at once,
// and a file that cannot be read stops transfers instead of being passed over,
// for it may be the one that blocks. Short names are resolved by Lade's own
// files only: the API is Docker's, where "debian" is docker.io/library/debian
// whatever podman's files on the machine say.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// maxFile bounds a configuration file.
const maxFile = 4 << 20

// Place is one place where a repository may be asked for.
type Place struct {
	// Domain and Path are the registry's host and the repository there.
	Domain, Path string
	// Insecure allows plain HTTP, and certificates that nobody vouches for.
	Insecure bool
	// Mirror is set for all places but the last, which is the registry itself.
	Mirror bool
}

// Paths says where the files are. Files of later directories come after those
// of earlier ones and replace tables with the same prefix.
type Paths struct {
	// Containers is the directory that is shared with podman and its kin,
	// usually /etc/containers, and Own Lade's own. Either may be empty.
	Containers, Own string
}

// Places returns where the repository of a reference may be asked for, in the
// order to try, the registry itself last. The error is of class Denied if the
// registry is blocked. push leaves out the mirrors.
func (p Paths) Places(ref reference.Reference, push bool) ([]Place, error) {
	c, err := p.read()
	if err != nil {
		return nil, err
	}
	return c.places(ref, push)
}

func (p Paths) read() (*parsed, error) {
	all := &parsed{}
	for _, dir := range []string{p.Containers, p.Own} {
		if dir == "" {
			continue
		}
		files := []string{filepath.Join(dir, "registries.conf")}
		more, err := filepath.Glob(filepath.Join(dir, "registries.conf.d", "*.conf"))
		if err != nil {
			return nil, err
		}
		slices.Sort(more)
		for _, f := range append(files, more...) {
			one, err := readFile(f)
			if err != nil {
				return nil, err
			}
			if dir != p.Own {
				one.aliases, one.search = nil, nil
			}
			all.add(one)
		}
	}
	return all, nil
}

func readFile(path string) (*parsed, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &parsed{}, nil
	case err != nil:
		return nil, fmt.Errorf("read where registries are: %w", err)
	case info.Size() > maxFile:
		return nil, errdefs.New(errdefs.Exhausted, "%s has %d bytes, more than a configuration", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read where registries are: %w", err)
	}
	p, err := parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range p.registries {
		p.registries[i].file = path
	}
	return p, nil
}

// document is registries.conf as it is written.
type document struct {
	Search     []string          `toml:"unqualified-search-registries"`
	Aliases    map[string]string `toml:"aliases"`
	Registries []registry        `toml:"registry"`
	Version1   map[string]any    `toml:"registries"`
}

type registry struct {
	Prefix           string   `toml:"prefix"`
	Location         string   `toml:"location"`
	Insecure         bool     `toml:"insecure"`
	Blocked          bool     `toml:"blocked"`
	MirrorDigestOnly bool     `toml:"mirror-by-digest-only"`
	Mirrors          []mirror `toml:"mirror"`

	file string
}

type mirror struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
	Pull     string `toml:"pull-from-mirror"`
}

// parsed is what files say together.
type parsed struct {
	registries []registry
	aliases    map[string]string
	search     []string
}

func (p *parsed) add(q *parsed) {
	for _, r := range q.registries {
		p.registries = append(slices.DeleteFunc(p.registries, func(o registry) bool { return o.Prefix == r.Prefix }), r)
	}
	for short, full := range q.aliases {
		if p.aliases == nil {
			p.aliases = map[string]string{}
		}
		p.aliases[short] = full
	}
	if q.search != nil {
		p.search = q.search
	}
}

// parse reads the text of one file and checks all of it.
func parse(text string) (*parsed, error) {
	var d document
	if _, err := toml.Decode(text, &d); err != nil {
		if at, ok := errors.AsType[toml.ParseError](err); ok {
			return nil, errdefs.New(errdefs.Invalid, "line %d: %s", at.Position.Line, at.Message)
		}
		return nil, errdefs.With(errdefs.Invalid, err)
	}
	if len(d.Version1) > 0 {
		return nil, errdefs.Hint(errdefs.With(errdefs.NotImplemented, errors.New("it is in version 1 of the format")), "write [[registry]] tables, as registries.conf(5) describes them")
	}
	p := &parsed{search: d.Search, aliases: map[string]string{}}
	for _, s := range d.Search {
		if err := checkLocation(s); err != nil || strings.Contains(s, "/") {
			return nil, errdefs.New(errdefs.Invalid, "unqualified-search-registries: %q is no registry", s)
		}
	}
	for short, full := range d.Aliases {
		if full == "" {
			continue // takes back an earlier one; it had no effect here
		}
		if r, err := reference.ParseName(full); err != nil || r.Tag != "" || r.Digest != "" || !strings.HasPrefix(full, r.Domain+"/") {
			return nil, errdefs.New(errdefs.Invalid, "alias %q: %q is not the whole name of a repository", short, full)
		}
		p.aliases[short] = full
	}
	for _, r := range d.Registries {
		if err := r.check(); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(p.registries, func(o registry) bool { return o.Prefix == r.Prefix }) {
			return nil, errdefs.New(errdefs.Invalid, "registry %q is there twice", r.Prefix)
		}
		p.registries = append(p.registries, r)
	}
	return p, nil
}

// check checks a table, and fills in what it leaves to be understood.
func (r *registry) check() error {
	r.Prefix, r.Location = strings.TrimRight(r.Prefix, "/"), strings.TrimRight(r.Location, "/")
	wild := strings.HasPrefix(r.Prefix, "*.")
	switch {
	case r.Prefix == "" && r.Location == "":
		return errdefs.With(errdefs.Invalid, errors.New("a registry has neither prefix nor location"))
	case r.Prefix == "":
		r.Prefix = r.Location
	case r.Location == "" && !wild:
		r.Location = r.Prefix
	}
	if err := checkLocation(strings.TrimPrefix(r.Prefix, "*.")); err != nil {
		return fmt.Errorf("prefix %q: %w", r.Prefix, err)
	}
	if wild && strings.Contains(r.Prefix, "/") {
		return errdefs.New(errdefs.Invalid, "prefix %q: after *. comes a domain only", r.Prefix)
	}
	if r.Location != "" {
		if err := checkLocation(r.Location); err != nil {
			return fmt.Errorf("registry %q: location %q: %w", r.Prefix, r.Location, err)
		}
	}
	for i, m := range r.Mirrors {
		m.Location = strings.TrimRight(m.Location, "/")
		if err := checkLocation(m.Location); err != nil {
			return fmt.Errorf("registry %q: mirror %q: %w", r.Prefix, m.Location, err)
		}
		switch {
		case !slices.Contains([]string{"", "all", "digest-only", "tag-only"}, m.Pull):
			return errdefs.New(errdefs.Invalid, "registry %q: mirror %q: pull-from-mirror is %q, not all, digest-only or tag-only", r.Prefix, m.Location, m.Pull)
		case m.Pull != "" && r.MirrorDigestOnly:
			return errdefs.New(errdefs.Invalid, "registry %q: mirror %q: mirror-by-digest-only and pull-from-mirror exclude each other", r.Prefix, m.Location)
		case r.MirrorDigestOnly:
			m.Pull = "digest-only"
		}
		r.Mirrors[i] = m
	}
	return nil
}

// checkLocation refuses what cannot be the beginning of a reference.
func checkLocation(s string) error {
	host, path, slash := strings.Cut(s, "/")
	switch {
	case s == "":
		return errdefs.With(errdefs.Invalid, errors.New("it is empty"))
	case strings.Contains(s, "://"):
		return errdefs.With(errdefs.Invalid, errors.New("it has a scheme; write the host and what follows only"))
	}
	test := host + "/x"
	if slash {
		// A prefix may have a tag or digest; a location cannot, and gets none.
		test = host + "/" + path
	}
	r, err := reference.ParseName(test)
	if err != nil {
		return err
	}
	if r.Domain != host && host != "docker.io" && host != "index.docker.io" {
		return errdefs.New(errdefs.Invalid, "%q is not the name of a host", host)
	}
	return nil
}

// match returns how much of a reference's text the prefix covers; 0: not this
// reference.
func (r *registry) match(ref reference.Reference) int {
	text := ref.String()
	if domain, ok := strings.CutPrefix(r.Prefix, "*"); ok {
		// The port belongs to the host: *.example.com has none.
		if strings.HasSuffix(ref.Domain, domain) && len(ref.Domain) > len(domain) {
			return len(ref.Domain)
		}
		return 0
	}
	rest, ok := strings.CutPrefix(text, r.Prefix)
	if !ok || rest != "" && !strings.ContainsRune("/:@", rune(rest[0])) {
		return 0
	}
	// What follows a host's name by a colon is a port, and another registry.
	if len(r.Prefix) < len(ref.Domain) {
		return 0
	}
	return len(r.Prefix)
}

func (p *parsed) places(ref reference.Reference, push bool) ([]Place, error) {
	var found *registry
	for i, r := range p.registries {
		// A wild one matches the host as a whole, and any other is closer.
		if r.match(ref) > 0 && (found == nil || closer(r, *found)) {
			found = &p.registries[i]
		}
	}
	if found == nil {
		return []Place{{Domain: ref.Domain, Path: ref.Path}}, nil
	}
	if found.Blocked {
		return nil, errdefs.Hint(errdefs.New(errdefs.Denied, "registry %s is blocked", found.Prefix), "%s says so", found.file)
	}
	var all []Place
	for _, m := range found.Mirrors {
		digest := ref.Digest != ""
		if push || m.Pull == "digest-only" && !digest || m.Pull == "tag-only" && digest {
			continue
		}
		place, err := found.rewrite(ref, m.Location)
		if err != nil {
			return nil, err
		}
		place.Mirror, place.Insecure = true, m.Insecure
		all = append(all, place)
	}
	place, err := found.rewrite(ref, found.Location)
	place.Insecure = found.Insecure
	return append(all, place), err
}

// closer reports whether a's prefix says more than b's.
func closer(a, b registry) bool {
	if wa, wb := strings.HasPrefix(a.Prefix, "*"), strings.HasPrefix(b.Prefix, "*"); wa != wb {
		return wb
	}
	return len(a.Prefix) > len(b.Prefix)
}

// rewrite returns where ref is when location stands for the prefix.
func (r *registry) rewrite(ref reference.Reference, location string) (Place, error) {
	if location == "" {
		return Place{Domain: ref.Domain, Path: ref.Path}, nil
	}
	rest := ref.Name()[min(len(ref.Name()), r.match(ref)):]
	moved, err := reference.ParseName(location + rest)
	if err != nil {
		return Place{}, fmt.Errorf("registry %q: %s: %w", r.Prefix, ref.Familiar(), err)
	}
	return Place{Domain: moved.Domain, Path: moved.Path}, nil
}

// Short returns what a name without a registry may mean, the best first; nil:
// what it means in Docker.
func (p Paths) Short(name string) ([]reference.Reference, error) {
	bare, err := reference.ParseName(name)
	if err != nil {
		return nil, err
	}
	repository := bare.FamiliarName()
	if bare.Domain != "docker.io" || strings.HasPrefix(name, "docker.io/") || strings.HasPrefix(name, "index.docker.io/") {
		return nil, nil
	}
	c, err := p.read()
	if err != nil {
		return nil, err
	}
	var all []reference.Reference
	add := func(full string) error {
		r, err := reference.ParseName(full)
		r.Tag, r.Digest = bare.Tag, bare.Digest
		all = append(all, r)
		return err
	}
	if full := c.aliases[repository]; full != "" {
		return all, add(full)
	}
	for _, registry := range c.search {
		if err := add(registry + "/" + repository); err != nil {
			return nil, err
		}
	}
	return all, nil
}
