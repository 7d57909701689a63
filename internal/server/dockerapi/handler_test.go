package dockerapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
)

func TestVersions(t *testing.T) {
	const old, recent = "client version %s is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version", "client version %s is too new. Maximum supported API version is 1.56"
	for path, want := range map[string]string{
		"/_ping":         "OK",
		"/v1.44/_ping":   "OK",
		"/v1.56/_ping":   "OK",
		"/v1.43/_ping":   `{"message":"` + fmt.Sprintf(old, "1.43") + `"}` + "\n",
		"/v1.57/_ping":   `{"message":"` + fmt.Sprintf(recent, "1.57") + `"}` + "\n",
		"/v2.0/_ping":    `{"message":"` + fmt.Sprintf(recent, "2.0") + `"}` + "\n",
		"/v0.99/_ping":   `{"message":"` + fmt.Sprintf(old, "0.99") + `"}` + "\n",
		"/v1/_ping":      `{"message":"invalid API version \"1\": want one like v1.56"}` + "\n",
		"/v1.5e1/_ping":  `{"message":"invalid API version \"1.5e1\": want one like v1.56"}` + "\n",
		"/v1.44.1/_ping": `{"message":"invalid API version \"1.44.1\": want one like v1.56"}` + "\n",
		"/vx/_ping":      `{"message":"page not found"}` + "\n",
		"/v1.50":         `{"message":"page not found"}` + "\n",
	} {
		w := do(t, &fake{}, http.MethodGet, path, "")
		if got := w.Body.String(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		status := http.StatusBadRequest
		switch {
		case want == "OK":
			status = http.StatusOK
		case strings.Contains(want, "page"):
			status = http.StatusNotFound
		}
		if w.Code != status {
			t.Errorf("%s: status %d, want %d", path, w.Code, status)
		}
	}
}

func TestPing(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := do(t, &fake{}, method, "/_ping", "")
		for key, want := range map[string]string{
			"Api-Version": "1.56", "Docker-Experimental": "false", "Ostype": "linux", "Builder-Version": "1",
			"Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
			"Content-Type": "text/plain; charset=utf-8",
		} {
			if got := w.Header().Get(key); got != want {
				t.Errorf("%s: header %s is %q, want %q", method, key, got, want)
			}
		}
		if want := map[string]string{http.MethodGet: "OK", http.MethodHead: ""}[method]; w.Body.String() != want {
			t.Errorf("%s: body %q, want %q", method, w.Body, want)
		}
	}
}

// TestErrors checks that the class of an error becomes Docker's status, and
// its message and hint Docker's body.
func TestErrors(t *testing.T) {
	for class, want := range map[errdefs.Class]int{
		errdefs.Internal: 500, errdefs.NotFound: 404, errdefs.Invalid: 400, errdefs.Conflict: 409, errdefs.Denied: 403,
		errdefs.Unauthorized: 401, errdefs.Unavailable: 503, errdefs.Exhausted: 507, errdefs.NotImplemented: 501,
		errdefs.NotModified: 304, errdefs.Cancelled: 499, errdefs.DataLoss: 500,
	} {
		f := &fake{start: func(string) error {
			return errdefs.Hint(errdefs.New(class, "start <c>: it is %s", "so"), "do this")
		}}
		w := do(t, f, http.MethodPost, "/containers/c/start", "")
		if w.Code != want {
			t.Errorf("%v: status %d, want %d", class, w.Code, want)
		}
		body := `{"message":"start <c>: it is so; do this"}` + "\n"
		if class == errdefs.NotModified {
			body = ""
		}
		if got := w.Body.String(); got != body {
			t.Errorf("%v: body %q, want %q", class, got, body)
		}
	}
}

// TestRequests sends requests that are answered without a service's doing much,
// and checks status and body.
func TestRequests(t *testing.T) {
	seven := 7
	f := &fake{
		events: newEvents(t),
		create: func(name string, req api.CreateRequest, platform string) (api.CreateResponse, error) {
			return api.CreateResponse{ID: name + "|" + req.Image + "|" + platform + "|" + string(req.HostConfig.NetworkMode)}, nil
		},
		start: func(ref string) error {
			if ref != "c" && ref != "a/b" {
				return errdefs.New(errdefs.NotFound, "No such container: %s", ref)
			}
			return nil
		},
		stop: func(_ string, o container.StopOptions) error {
			if diff := cmp.Diff(container.StopOptions{Signal: "INT", Timeout: &seven}, o); diff != "" {
				return errors.New(diff)
			}
			return nil
		},
		kill: func(ref, signal string) error { return errdefs.New(errdefs.Conflict, "%s %s", ref, signal) },
		remove: func(_ string, o container.RemoveOptions) error {
			if !o.Force || !o.Volumes {
				return errors.New("want both")
			}
			return nil
		},
		rename: func(ref, name string) error { return errdefs.New(errdefs.Invalid, "%s to %s", ref, name) },
		list: func(o container.ListOptions) ([]api.Summary, error) {
			if len(o.Filters) == 0 {
				return nil, nil
			}
			return []api.Summary{{ID: fmt.Sprintf("%v %d %v %v", o.All, o.Limit, o.Size, o.Filters)}}, nil
		},
		resize:   func(_ string, h, w uint) error { return errdefs.New(errdefs.Invalid, "%d by %d", h, w) },
		version:  func() (system.VersionResponse, error) { return system.VersionResponse{Version: "9"}, nil },
		networks: []network.Inspect{{Network: network.Network{Name: "bridge", ID: "b1"}}},
		execs: &fakeExecs{
			create:  func(ref string, req api.ExecCreateRequest) (string, error) { return ref + req.Cmd[0], nil },
			inspect: func(id string) (api.ExecInspectResponse, error) { return api.ExecInspectResponse{ID: id}, nil },
		},
	}
	tests := []struct {
		method, target, body string
		status               int
		want                 string // of the answer, part of it; "=" in front: all of it
	}{
		{"POST", "/v1.50/containers/create?name=n&platform=linux/arm64", `{"Image":"i","HostConfig":{"NetworkMode":"none"},"New":{"Field":1}}`, 201, `={"Id":"n|i|linux/arm64|none","Warnings":[]}`},
		{"POST", "/containers/create", `{"Image":"i"}`, 201, `={"Id":"|i||","Warnings":[]}`},
		{"POST", "/containers/create", `{}`, 400, "config cannot be empty"},
		{"POST", "/containers/create", "", 400, "config cannot be empty"},
		{"POST", "/containers/create", `{"Image":`, 400, "invalid JSON"},
		{"POST", "/containers/create", `{"Image":1}`, 400, "invalid JSON"},
		{"POST", "/containers/create", ` `, 400, "got EOF"},
		{"POST", "/containers/create", `{"Image":"i"} x`, 400, "unexpected content after JSON"},
		{"POST", "/containers/create", `{"Image":"` + strings.Repeat("i", maxBody) + `"}`, 400, "larger than"},
		{"POST", "/containers/c/start", "", 204, "="},
		{"POST", "/containers//c/start", "", 204, "="},
		{"POST", "/containers/a/b/start", "", 204, "="},
		{"POST", "/containers/a%2Fb/start", "", 204, "="},
		{"POST", "/containers/x/start", "", 404, `={"message":"No such container: x"}`},
		{"POST", "/containers//start", "", 501, "does not have this operation"},
		{"POST", "/containers/c/stop?signal=INT&t=7", "", 204, "="},
		{"POST", "/containers/c/restart?signal=INT&t=7", "", 204, "="},
		{"POST", "/containers/c/stop?t=soon", "", 400, `invalid value \"soon\" for \"t\"`},
		{"POST", "/containers/c/stop?t=%zz", "", 400, "invalid query"},
		{"POST", "/containers/c/kill?signal=HUP", "", 409, "c HUP"},
		{"POST", "/containers/c/pause", "", 204, "="},
		{"POST", "/containers/c/unpause", "", 204, "="},
		{"POST", "/containers/c/rename?name=d", "", 400, "c to d"},
		{"POST", "/containers/c/update", `{"Memory":7,"RestartPolicy":{"Name":"always"}}`, 200, `={"Warnings":["c 7 always"]}`},
		{"POST", "/containers/c/update", `{"Memory":"much"}`, 400, "invalid JSON"},
		{"DELETE", "/containers/c?force=1&v=true", "", 204, "="},
		{"DELETE", "/containers/c?link=1", "", 501, "links"},
		{"POST", "/containers/c/resize?h=24&w=80", "", 400, "24 by 80"},
		{"POST", "/containers/c/resize?h=24", "", 400, "invalid terminal size"},
		{"POST", "/containers/c/resize?h=-1&w=80", "", 400, "invalid terminal size"},
		{"POST", "/containers/c/wait?condition=bored", "", 400, "invalid condition"},
		{"GET", "/containers/json", "", 200, "=[]"},
		{"GET", `/containers/json?all=1&limit=3&size=0&filters={"name":["a"]}`, "", 200, "true 3 false map[name:[a]]"},
		{"GET", `/containers/json?all=True&filters={"name":{"a":true,"b":false}}`, "", 200, "true 0 false map[name:[a]]"},
		{"GET", `/containers/json?filters={"name":7}`, "", 400, "invalid filters"},
		{"GET", `/containers/json?filters={`, "", 400, "invalid filters"},
		{"GET", "/containers/json?limit=many", "", 400, "invalid value"},
		{"GET", "/containers/c/json", "", 404, "no such thing"},
		{"GET", "/containers/c/logs", "", 400, "at least one of"},
		{"GET", "/containers/c/logs?stdout=1&since=yesterday", "", 400, "invalid value for"},
		{"GET", "/containers/c/logs?stdout=1", "", 404, "no such thing"},
		{"GET", "/containers/c/top", "", 501, "GET /containers/c/top: this version of Lade does not have this operation"},
		{"POST", "/containers/c/attach", "", 404, "no such thing"},
		{"POST", "/containers/c/exec", `{"Cmd":["true"]}`, 201, `={"Id":"ctrue"}`},
		{"POST", "/containers/c/exec", `{}`, 400, "no exec command specified"},
		{"GET", "/exec/e/json", "", 200, `"ID":"e"`},
		{"POST", "/exec/e/resize?h=1&w=2", "", 200, "="},
		{"GET", "/version", "", 200, `"Version":"9","ApiVersion":"1.56","MinAPIVersion":"1.44"`},
		{"GET", "/info", "", 200, `"Name":"host"`},
		{"GET", "/networks", "", 200, `"Name":"bridge"`},
		{"GET", "/networks/b1", "", 200, `"Name":"bridge"`},
		{"GET", "/networks/x", "", 404, "network x not found"},
		{"GET", "/events?until=1", "", 200, "="},
		{"GET", "/events?until=tomorrow", "", 400, "invalid value"},
		{"GET", "/swarm", "", 503, "This node is not a swarm manager"},
		{"POST", "/build", "", 501, "this version of Lade"},
		{"GET", "/", "", 404, "page not found"},
		{"GET", "/nothing", "", 404, "page not found"},
		{"BREW", "/info", "", 404, "page not found"},
		{"OPTIONS", "/info", "", 200, "="},
		{"GET", "/lade/healthz", "", 200, "=ok"},
		{"GET", "/lade/containers/c/explain", "", 200, "=explain c as text"},
		{"GET", "/lade/containers/c/explain?format=json", "", 200, "=explain c as json"},
		{"GET", "/lade/containers/c/explain?format=x", "", 400, "invalid format"},
		{"GET", "/lade/containers/c/why", "", 200, "=why c"},
		{"GET", "/lade/dump", "", 200, `"request":"GET /lade/dump"`},
		{"GET", "/lade/dump?stacks=1", "", 200, "goroutine "},
	}
	for _, tt := range tests {
		w := do(t, f, tt.method, strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22").Replace(tt.target), tt.body)
		got := strings.TrimSuffix(w.Body.String(), "\n")
		whole, exact := strings.CutPrefix(tt.want, "=")
		if w.Code != tt.status || exact && got != whole || !exact && !strings.Contains(got, tt.want) {
			t.Errorf("%s %s %.60s: %d %s, want %d %s", tt.method, tt.target, tt.body, w.Code, got, tt.status, tt.want)
		}
	}
}

func TestContentType(t *testing.T) {
	for ct, want := range map[string]int{
		"application/json": 201, "application/json; charset=utf-8": 201, "Application/JSON": 201,
		"": 400, "text/plain": 400, "application/x-www-form-urlencoded": 400, ";": 400,
	} {
		f := &fake{create: func(string, api.CreateRequest, string) (api.CreateResponse, error) { return api.CreateResponse{}, nil }}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/containers/create", strings.NewReader(`{"Image":"i"}`))
		req.Header.Set("Content-Type", ct)
		w := httptest.NewRecorder()
		handler(f).ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("%q: %d %s, want %d", ct, w.Code, w.Body, want)
		}
	}
}

func TestInspectBefore52(t *testing.T) {
	settings := &network.EndpointSettings{IPPrefixLen: 16}
	if err := json.Unmarshal([]byte(`{"IPAddress":"10.88.0.2","Gateway":"10.88.0.1","MacAddress":"02:42:0a:58:00:02"}`), settings); err != nil {
		t.Fatal(err)
	}
	f := &fake{inspect: func(ref string, size bool) (api.InspectResponse, error) {
		return api.InspectResponse{ID: ref, NetworkSettings: &api.NetworkSettings{
			SandboxID: "s", Networks: map[string]*network.EndpointSettings{"bridge": settings},
		}}, nil
	}}
	for v, want := range map[string]map[string]any{
		"1.51": {"IPAddress": "10.88.0.2", "Gateway": "10.88.0.1", "MacAddress": "02:42:0a:58:00:02", "SandboxID": "s", "GlobalIPv6Address": ""},
		"1.52": {"IPAddress": nil, "Gateway": nil, "SandboxID": "s"},
	} {
		var got struct {
			ID              string `json:"Id"`
			NetworkSettings map[string]any
		}
		w := do(t, f, http.MethodGet, "/v"+v+"/containers/c/json", "")
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.ID != "c" {
			t.Fatalf("%s: %v: %s", v, err, w.Body)
		}
		for key, value := range want {
			if got.NetworkSettings[key] != value {
				t.Errorf("%s: %s is %v, want %v", v, key, got.NetworkSettings[key], value)
			}
		}
	}
}

func TestPanicBecomesAnError(t *testing.T) {
	f := &fake{start: func(string) error { panic("at the disco") }}
	w := do(t, f, http.MethodPost, "/containers/c/start", "")
	if w.Code != 500 || !strings.Contains(w.Body.String(), "fault") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMoment(t *testing.T) {
	for in, want := range map[string]string{
		"": "0", "0": "0", "1": "1970-01-01T00:00:01Z", "1.5": "1970-01-01T00:00:01.5Z",
		"1700000000.000000001": "2023-11-14T22:13:20.000000001Z", "1.0000000019": "1970-01-01T00:00:01.000000001Z",
		"2023-11-14T22:13:20Z": "2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00": "2023-11-14T22:13:20Z",
		"x": "error", "1.x": "error", "1.-5": "error", "99999999999999999999": "error", "1.5.5": "error",
	} {
		c := &call{query: map[string][]string{"t": {in}}}
		got, err := c.moment("t")
		text := got.UTC().Format(time.RFC3339Nano)
		switch {
		case err != nil:
			text = "error"
		case got.IsZero():
			text = "0"
		}
		if text != want {
			t.Errorf("%q: %s, want %s", in, text, want)
		}
	}
}

// FuzzRequest sends whatever it likes. Nothing may panic, and every answer is
// one that HTTP knows, errors in Docker's form.
func FuzzRequest(f *testing.F) {
	for _, s := range [][3]string{
		{"GET", "/v1.50/containers/json?filters=%7B%22a%22%3A%5B%22b%22%5D%7D", ""},
		{"POST", "/containers/create?name=x", `{"Image":"i","HostConfig":{"PortBindings":{"80/tcp":[{}]}},"Healthcheck":{}}`},
		{"POST", "/containers/a/exec", `{"Cmd":["a"],"ConsoleSize":[1,2]}`},
		{"GET", "/containers/x/logs?stdout=1&since=1.5&tail=-3", ""},
		{"POST", "/containers/x/resize?h=9999999&w=1", ""},
		{"POST", "/images/create?fromImage=a&tag=b", ""},
		{"DELETE", "/v1.44/images/a%2fb:c?force=%00", ""},
	} {
		f.Add(s[0], s[1], s[2])
	}
	h := handler(&fake{
		create: func(string, api.CreateRequest, string) (api.CreateResponse, error) { return api.CreateResponse{}, nil },
		execs: &fakeExecs{
			create:  func(string, api.ExecCreateRequest) (string, error) { return "", nil },
			start:   nil,
			inspect: func(string) (api.ExecInspectResponse, error) { return api.ExecInspectResponse{}, nil },
		},
	})
	f.Fuzz(func(t *testing.T, method, target, body string) {
		if strings.Contains(target, "/start") || strings.Contains(target, "events") {
			return // they take the connection over, or do not end
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://lade"+target, strings.NewReader(body))
		if err != nil {
			return // no request
		}
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code == 500 {
			t.Errorf("%s %q: %s", method, target, w.Body)
		}
		if w.Code >= 400 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %d %q", method, target, w.Code, w.Body)
		}
	})
}
