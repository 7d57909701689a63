package client

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/registry/auth"
)

func TestTags(t *testing.T) {
	link := `</v2/a/b/tags/list?last=b>; rel="next"`
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("last") == "" {
			w.Header().Set("Link", link)
			_, _ = io.WriteString(w, `{"name":"a/b","tags":["a","b"]}`)
			return
		}
		if r.URL.Query().Get("last") == "forever" {
			w.Header().Set("Link", fmt.Sprintf(`</v2/a/b/tags/list?last=forever&n=%s1>; rel="next"`, r.URL.Query().Get("n")))
		}
		_, _ = io.WriteString(w, `{"name":"a/b","tags":["c"]}`)
	})
	r := repo(t, quick(), s.URL, auth.Credentials{})
	if tags, err := r.Tags(t.Context()); err != nil || strings.Join(tags, " ") != "a b c" {
		t.Errorf("%q, %v", tags, err)
	}
	for bad, class := range map[string]errdefs.Class{
		`<https://elsewhere.example/x>; rel="next"`:  errdefs.DataLoss,
		`</v2/a/b/tags/list>; rel="next"`:            errdefs.DataLoss,
		`</v2/a/b/tags/list?last=forever>; rel=next`: errdefs.Exhausted,
	} {
		link = bad
		if _, err := r.Tags(t.Context()); !errdefs.Is(err, class) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	link = `</x>; rel="prev"`
	if tags, err := r.Tags(t.Context()); err != nil || len(tags) != 2 {
		t.Errorf("no next page: %q, %v", tags, err)
	}
}

// TestReferrers: by the question of version 1.1, and by the tag of those that
// do not know it.
func TestReferrers(t *testing.T) {
	d := digest.FromString("x")
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + string(d) + `","size":3}]}`
	for _, path := range []string{"/v2/a/b/referrers/" + string(d), "/v2/a/b/manifests/sha256-" + d.Encoded(), ""} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = io.WriteString(w, index)
		})
		got, err := repo(t, quick(), s.URL, auth.Credentials{}).Referrers(t.Context(), d)
		if err != nil || (len(got) == 1) != (path != "") {
			t.Errorf("%q: %+v, %v", path, got, err)
		}
	}
}
