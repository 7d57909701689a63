package dockerapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
	"lade/internal/transfer"
)

const someDigest = "sha256:0123456789012345678901234567890123456789012345678901234567890123"

func TestImages(t *testing.T) {
	tests := []struct {
		method, target string
		asked          string // of the service
		status         int
		want           string
	}{
		{"POST", "/images/create?fromImage=debian&tag=12&platform=linux/arm64", "pull debian:12 linux/arm64 ", 200, ""},
		{"POST", "/images/create?fromImage=localhost:5000/a/b&tag=" + someDigest, "pull localhost:5000/a/b@" + someDigest + "  ", 200, ""},
		{"POST", "/images/create?fromImage=debian", "pull debian  ", 200, ""},
		{"POST", "/images/create?fromSrc=-&repo=a&tag=1&message=m&changes=CMD+x&changes=USER+y&platform=linux/arm64", "import  {Name:a:1 Message:m Changes:[CMD x USER y] Platform:linux/arm64}", 200, `{"status":"sha256:1"}`},
		{"POST", "/images/create?fromSrc=http://x/y.tar", "", 501, "the engine fetches nothing"},
		{"GET", "/images/get?names=a&names=b:1", "save [a b:1] ", 200, "an archive"},
		{"GET", "/images/a/b:1/get?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D", "save [a/b:1] arm64", 200, "an archive"},
		{"POST", "/images/localhost:5000/a/b/push?tag=1", "push localhost:5000/a/b 1  ", 200, ""},
		{"POST", "/images/a/push", "push a   ", 200, ""},
		{"POST", "/images/a/push?tag=1&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D", "push a 1 arm64 ", 200, ""},
		{"POST", "/images/a/push?platform=linux/arm64", "", 400, "invalid platform"},
		{"GET", "/distribution/a/b:1/json", "distribution a/b:1", 200, `"Platforms":null`},
		{"GET", "/lade/registry/tags?name=a/b", "tags a/b", 200, `{"Repository":"a/b","Tags":[]}`},
		{"GET", "/lade/registry/manifest?name=a/b", "manifest a/b", 200, "{}"},
		{"POST", "/lade/images/copy?from=docker://a&to=oci:/b&platform=linux/arm64", "copy docker://a oci:/b linux/arm64 0", 200, "Digest: sha256:1"},
		{"GET", "/images/json?all=1", "list true map[]", 200, "[]"},
		{"GET", "/images/json?filters=%7B%22reference%22%3A%5B%22a%22%5D%7D", "list false map[reference:[a]]", 200, "[]"},
		{"GET", "/images/localhost:5000/a/b:c/json", "inspect localhost:5000/a/b:c", 200, `"RepoTags":["localhost:5000/a/b:c"]`},
		{"GET", "/images/a%2Fb/json", "inspect a/b", 200, `"Id":"sha256:1"`},
		{"GET", "/images/a/b/history", "history a/b", 200, "[]"},
		{"POST", "/images/a/b/tag?repo=c/d&tag=e", "tag a/b c/d:e", 201, ""},
		{"POST", "/images/a/b/tag?repo=c/d", "tag a/b c/d", 201, ""},
		{"POST", "/images/a/b/tag", "", 400, "names no repo"},
		{"DELETE", "/images/a/b@" + someDigest + "?force=1", "remove a/b@" + someDigest + " true false", 200, `[{"Untagged":"a/b@` + someDigest + `"}]`},
		{"DELETE", "/images/a?noprune=1", "remove a false true", 200, `[{"Untagged":"a"}]`},
		{"POST", "/images/prune", "prune map[]", 200, `{"ImagesDeleted":null,"SpaceReclaimed":5}`},
	}
	for _, tt := range tests {
		f := &fake{}
		w := do(t, f, tt.method, tt.target, "")
		if f.images.asked != tt.asked || w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s: %q, %d %s; want %q, %d %s", tt.method, tt.target, f.images.asked, w.Code, w.Body, tt.asked, tt.status, tt.want)
		}
	}
	f := &fake{images: fakeImages{list: []image.Summary{{ID: "sha256:1"}}}}
	if w := do(t, f, http.MethodGet, "/images/json", ""); !strings.Contains(w.Body.String(), `"RepoDigests":[],"RepoTags":[]`) {
		t.Errorf("an image without names: %s", w.Body)
	}
}

func TestPullCredentials(t *testing.T) {
	good, err := authconfig.Encode(registry.AuthConfig{Username: "me"})
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]string{
		"": "pull a  ", good: "pull a  me", "e30=": "pull a  ", "not base64!": "pull a  ", "bnVsbA==": "pull a  ",
	} {
		f := &fake{}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/images/create?fromImage=a", nil)
		req.Header.Set("X-Registry-Auth", header)
		handler(f).ServeHTTP(httptest.NewRecorder(), req)
		if f.images.asked != want {
			t.Errorf("%q: %q, want %q", header, f.images.asked, want)
		}
	}
}

// TestMessages checks the stream of a pull or load, line for line, and where
// an error goes.
func TestMessages(t *testing.T) {
	progress := []transfer.Progress{
		{ID: "12", Action: "Pulling from library/debian"},
		{ID: "0123456789ab", Action: "Downloading", Current: 5, Total: 10},
		{Action: "Status: Downloaded newer image for debian:12"},
		{Message: "Loaded image: a\n"},
		{Aux: transfer.Pushed{Tag: "1", Digest: "sha256:1", Size: 2}},
	}
	const lines = `{"status":"Pulling from library/debian","progressDetail":{},"id":"12"}` + "\r\n" +
		`{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"0123456789ab"}` + "\r\n" +
		`{"status":"Status: Downloaded newer image for debian:12"}` + "\r\n" +
		`{"stream":"Loaded image: a\n"}` + "\r\n" +
		`{"progressDetail":{},"aux":{"Tag":"1","Digest":"sha256:1","Size":2}}` + "\r\n"
	failed := errdefs.Hint(errdefs.New(errdefs.Unavailable, "registry is down"), "try again")
	tests := []struct {
		name   string
		target string
		images fakeImages
		status int
		want   string
	}{
		{"success", "/images/create?fromImage=a", fakeImages{progress: progress}, 200, lines},
		{"quiet load", "/images/load?quiet=1", fakeImages{progress: progress[:4]}, 200, `{"stream":"Loaded image: a\n"}` + "\r\n"},
		{"error at once", "/images/create?fromImage=a", fakeImages{err: failed}, 503, `{"message":"registry is down; try again"}` + "\n"},
		{
			"error later", "/images/create?fromImage=a",
			fakeImages{progress: progress[:1], err: failed},
			200,
			lines[:strings.Index(lines, "\n")+1] + `{"errorDetail":{"code":503,"message":"registry is down; try again"},"error":"registry is down; try again"}` + "\r\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := do(t, &fake{images: tt.images}, http.MethodPost, tt.target, "")
			if diff := cmp.Diff(tt.want, w.Body.String()); w.Code != tt.status || diff != "" {
				t.Errorf("%d, want %d\n%s", w.Code, tt.status, diff)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/json" {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	f := &fake{}
	w := do(t, f, http.MethodPost, "/auth", `{"username":"u","password":"p","serveraddress":"r:5000"}`)
	if f.images.asked != "login u p r:5000" || w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `{"IdentityToken":"t","Status":"Login Succeeded"}`) {
		t.Errorf("%q, %d %s", f.images.asked, w.Code, w.Body)
	}
	f = &fake{images: fakeImages{err: errdefs.New(errdefs.Unauthorized, "no")}}
	if w := do(t, f, http.MethodPost, "/auth", `{}`); w.Code != http.StatusUnauthorized {
		t.Errorf("refused: %d %s", w.Code, w.Body)
	}
}

func TestLoad(t *testing.T) {
	f := &fake{}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/images/load", strings.NewReader("a tar"))
	req.Header.Set("Content-Type", "application/x-tar")
	w := httptest.NewRecorder()
	handler(f).ServeHTTP(w, req)
	if f.images.loaded != "a tar" || w.Code != http.StatusOK {
		t.Errorf("%q %d", f.images.loaded, w.Code)
	}
}
