package dockerapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	imageapi "github.com/moby/moby/api/types/image"

	"lade/api"
	"lade/internal/engine/disk"
)

type fakeDisk struct{}

func (fakeDisk) Usage(context.Context) (disk.Usage, error) {
	return disk.Usage{Images: imageapi.DiskUsage{TotalCount: 1, TotalSize: 5, Items: []imageapi.Summary{{ID: "sha256:1"}}}}, nil
}

func (fakeDisk) Ledger(context.Context) (api.Ledger, error) {
	return api.Ledger{Root: "/r", Bytes: 7}, nil
}

// TestDiskUsage: each version of the API gets its own form.
func TestDiskUsage(t *testing.T) {
	h := New(Services{Disk: fakeDisk{}})
	for target, want := range map[string]struct {
		status  int
		has, no []string
	}{
		"/v1.51/system/df":                   {200, []string{`"LayersSize":5`, `"Images":[{`, `"BuildCache":[]`}, []string{"ImageUsage"}},
		"/v1.51/system/df?type=volume":       {200, []string{`"Images":null`}, []string{"sha256:1"}},
		"/v1.52/system/df":                   {200, []string{`"LayersSize":5`, `"ImageUsage":{`}, nil},
		"/v1.52/system/df?verbose=1":         {200, []string{`"ImageUsage":{`, `sha256:1`}, []string{"LayersSize"}},
		"/v1.53/system/df":                   {200, []string{`"ImageUsage":{"TotalCount":1,"TotalSize":5}`}, []string{"LayersSize", "sha256:1"}},
		"/v1.53/system/df?verbose=1":         {200, []string{`sha256:1`}, []string{"LayersSize"}},
		"/v1.53/system/df?type=container":    {200, []string{`"ContainerUsage"`}, []string{"ImageUsage"}},
		"/v1.53/system/df?type=build-cache":  {200, []string{`"BuildCacheUsage"`}, []string{"ImageUsage"}},
		"/v1.53/system/df?type=nonsense":     {400, []string{"unknown object type: nonsense"}, nil},
		api.LedgerPath:                       {200, []string{`"Root":"/r"`, `"Bytes":7`}, nil},
		"/v1.51/system/df?type=image&type=x": {400, []string{"unknown object type"}, nil},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
		if w.Code != want.status {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
		for _, s := range want.has {
			if !strings.Contains(w.Body.String(), s) {
				t.Errorf("%s: no %s in %s", target, s, w.Body)
			}
		}
		for _, s := range want.no {
			if strings.Contains(w.Body.String(), s) {
				t.Errorf("%s: %s in %s", target, s, w.Body)
			}
		}
	}
}
