package dockerapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"lade/internal/errdefs"
	"lade/internal/version"
)

// Handler serves the API. Make one with New.
type Handler struct {
	s       Services
	log     *slog.Logger
	routes  *router
	flight  inFlight
	leaving *leaving
}

// New returns a handler over services.
func New(s Services) *Handler {
	h := &Handler{s: s, log: s.Log, leaving: newLeaving()}
	if h.log == nil {
		h.log = slog.Default()
	}
	h.routes = newRouter(slices.Concat(
		h.systemRoutes(), h.imageRoutes(), h.archiveRoutes(), h.registryRoutes(), h.containerRoutes(), h.execRoutes(), h.activityRoutes(),
		h.networkRoutes(), h.diskRoutes(), h.commitRoutes(), h.contentsRoutes(), h.volumeRoutes(), h.fileRoutes(), h.ladeRoutes(),
	))
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.flight.enter(r)()
	head := w.Header()
	head.Set("Server", "Lade/"+version.Version+" ("+runtime.GOOS+")")
	head.Set("Api-Version", MaxVersion)
	head.Set("Ostype", runtime.GOOS)
	head.Set("Docker-Experimental", "false")

	t := &tracker{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // breaks the connection; net/http knows it
		}
		h.log.Error("panic", "request", r.Method+" "+r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		t.fail(errors.New("the engine has a fault in this operation; its log says more"))
	}()
	if err := h.serve(t, r); err != nil {
		if statusOf(err) == http.StatusInternalServerError {
			h.log.Error("request", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		t.fail(err)
	}
}

// serve finds the route of a request and runs it.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	v, path, err := splitVersion(r.URL.Path)
	if err != nil {
		return err
	}
	rt, name, ok := h.routes.find(r.Method, path)
	if !ok {
		return missing(r.Method, path)
	}
	// Query drops what it cannot parse, and the request would mean something
	// else then.
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errdefs.New(errdefs.Invalid, "invalid query: %w", err)
	}
	return rt.serve(&call{Request: r, w: w, name: name, version: v, query: query})
}

// missing is the error for a path without a route. For those of Docker's
// operations that Lade does not have, it says so.
func missing(method, path string) error {
	switch head(path) {
	case "swarm", "nodes", "services", "tasks", "secrets", "configs":
		return errdefs.New(errdefs.Unavailable, "This node is not a swarm manager. Lade has no swarm mode")
	case "containers", "images", "exec", "networks", "volumes", "build", "commit", "plugins", "distribution", "session", "grpc", "system":
		return errdefs.New(errdefs.NotImplemented, "%s %s: this version of Lade does not have this operation", method, path)
	}
	return errdefs.New(errdefs.NotFound, "page not found")
}

// tracker notes whether an answer has begun: after that, no status can be
// sent any more.
type tracker struct {
	http.ResponseWriter
	begun bool
}

func (t *tracker) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(p []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach what is below.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// fail answers with err, or breaks the connection where the client would take
// half an answer for a whole one.
func (t *tracker) fail(err error) {
	if t.begun {
		panic(http.ErrAbortHandler)
	}
	writeError(t, err)
}

// inFlight holds the requests that are being served.
type inFlight struct {
	mu   sync.Mutex
	last uint64               // guarded by mu
	ops  map[uint64]operation // guarded by mu
}

// operation is a request that is being served.
type operation struct {
	Number  uint64    `json:"number"`
	Request string    `json:"request"`
	Since   time.Time `json:"since"`
}

// enter notes a request and returns the function that strikes it off.
func (f *inFlight) enter(r *http.Request) func() {
	op := operation{Request: fmt.Sprintf("%s %.300s", r.Method, r.URL.Path), Since: time.Now()}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ops == nil {
		f.ops = map[uint64]operation{}
	}
	f.last++
	op.Number = f.last
	f.ops[op.Number] = op
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.ops, op.Number)
	}
}

// list returns the requests that are being served, the oldest first.
func (f *inFlight) list() []operation {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]operation, 0, len(f.ops))
	for _, op := range f.ops {
		out = append(out, op)
	}
	slices.SortFunc(out, func(a, b operation) int { return cmp.Compare(a.Number, b.Number) })
	return out
}
