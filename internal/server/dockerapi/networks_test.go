package dockerapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
)

func TestNetworkRoutes(t *testing.T) {
	f := &fake{networks: []network.Inspect{{Network: network.Network{Name: "web", ID: "0123"}}}}
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{http.MethodPost, "/networks/create", `{"Name":"new"}`, 201, `"Id":"id of new"`},
		{http.MethodPost, "/networks/create", `{}`, 400, "needs a name"},
		{http.MethodPost, "/networks/create", `{`, 400, "invalid JSON"},
		{http.MethodGet, "/networks/web", "", 200, `"Name":"web"`},
		{http.MethodGet, "/networks/nope", "", 404, "network nope not found"},
		{http.MethodPost, "/networks/web/connect", `{"Container":"c"}`, 200, ""},
		{http.MethodPost, "/networks/web/connect", `{}`, 400, "no container is named"},
		{http.MethodPost, "/networks/nope/connect", `{"Container":"c"}`, 404, "network nope not found"},
		{http.MethodPost, "/networks/web/disconnect", `{"Container":"c","Force":true}`, 200, ""},
		{http.MethodPost, "/networks/web/disconnect", `{}`, 400, "no container is named"},
		{http.MethodPost, "/networks/prune", "", 200, `"NetworksDeleted":["old"]`},
		{http.MethodDelete, "/networks/web", "", 204, ""},
		{http.MethodDelete, "/networks/nope", "", 404, "network nope not found"},
	} {
		r := do(t, f, tt.method, "/v1.51"+tt.path, tt.body)
		if r.Code != tt.status || !strings.Contains(r.Body.String(), tt.want) {
			t.Errorf("%s %s %s: %d %s, want %d and %q", tt.method, tt.path, tt.body, r.Code, r.Body, tt.status, tt.want)
		}
	}
}
