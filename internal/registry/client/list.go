package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
)

// maxPages bounds how many pages of a list are read: a list may be endless.
const maxPages = 1000

// Tags returns the tags of the repository, in the registry's order.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var all []string
	err := r.pages(ctx, r.url("tags", "list"), "tags of "+r.name, func(raw []byte) error {
		var page struct{ Tags []string }
		err := json.Unmarshal(raw, &page)
		all = append(all, page.Tags...)
		return err
	})
	return all, err
}

// pages reads a list page by page, as far as the registry itself has it.
func (r *Repository) pages(ctx context.Context, next, what string, page func(raw []byte) error) error {
	for n := 0; next != ""; n++ {
		if n == maxPages {
			return errdefs.New(errdefs.Exhausted, "%s: more than %d pages", what, maxPages)
		}
		var raw []byte
		var header http.Header
		err := r.c.retry(ctx, func() error {
			resp, err := r.get(ctx, next, http.Header{"Accept": {"application/json"}})
			if err != nil {
				return err
			}
			defer drain(resp)
			if resp.StatusCode != http.StatusOK {
				return r.refused(resp, what)
			}
			header = resp.Header
			raw, err = readAll(resp.Body, image.MaxManifest)
			return err
		})
		if err != nil {
			return err
		}
		if err := page(raw); err != nil {
			return errdefs.New(errdefs.DataLoss, "%s: %w", what, err)
		}
		if next, err = r.follow(next, header.Get("Link")); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// nextPage is the Link header of RFC 8288, as far as registries use it.
func nextPage() *regexp.Regexp { return regexp.MustCompile(`^<([^>]*)>\s*;.*\brel="?next"?`) }

func (r *Repository) follow(here, link string) (string, error) {
	m := nextPage().FindStringSubmatch(link)
	if m == nil {
		return "", nil
	}
	base, err := url.Parse(here)
	if err != nil {
		return "", err
	}
	next, err := base.Parse(m[1])
	if err != nil || next.Host != base.Host || next.String() == here {
		return "", errdefs.New(errdefs.DataLoss, "registry %s names the next page %.200q", r.base.Host, m[1])
	}
	next.Scheme = base.Scheme // behind a proxy, registries do not know it
	return next.String(), nil
}

// Referrers returns what refers to a manifest: signatures, lists of contents,
// attestations. Registries that do not know the question keep the answer under
// a tag made of the digest.
func (r *Repository) Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	take := func(raw []byte) error {
		ix, err := image.ParseIndex(raw, "")
		all = append(all, ix.Manifests...)
		return err
	}
	err := r.pages(ctx, r.url("referrers", string(d)), "referrers of "+string(d), take)
	if !errdefs.Is(err, errdefs.NotFound) {
		return all, err
	}
	raw, _, err := r.Manifest(ctx, strings.Replace(string(d), ":", "-", 1))
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return all, take(raw)
}
