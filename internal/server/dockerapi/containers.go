package dockerapi

import (
	"encoding/json"
	"net/http"
	"net/url"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	ladeapi "lade/api"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
)

func (h *Handler) containerRoutes() []route {
	const one = "/containers/{name}"
	var rs []route
	if h.s.Lifecycle != nil {
		rs = append(rs,
			route{http.MethodPost, "/containers/create", h.createContainer},
			route{http.MethodPost, one + "/start", h.startContainer},
			route{http.MethodPost, one + "/stop", h.stopContainer},
			route{http.MethodPost, one + "/restart", h.restartContainer},
			route{http.MethodPost, one + "/kill", h.killContainer},
			route{http.MethodPost, one + "/pause", h.pauseContainer},
			route{http.MethodPost, one + "/unpause", h.unpauseContainer},
			route{http.MethodDelete, one, h.removeContainer},
		)
	}
	if h.s.States != nil {
		rs = append(rs,
			route{http.MethodGet, "/containers/json", h.listContainers},
			route{http.MethodGet, one + "/json", h.inspectContainer},
			route{http.MethodPost, one + "/rename", h.renameContainer},
			route{http.MethodPost, one + "/update", h.updateContainer},
			route{http.MethodPost, one + "/wait", h.waitContainer},
			route{http.MethodGet, "/lade" + one + "/explain", h.explainContainer},
			route{http.MethodGet, "/lade" + one + "/why", h.whyContainer},
		)
	}
	if h.s.Streams != nil {
		rs = append(rs,
			route{http.MethodGet, one + "/logs", h.containerLogs},
			route{http.MethodPost, one + "/attach", h.attachContainer},
			route{http.MethodPost, one + "/resize", h.resizeContainer},
		)
	}
	return rs
}

func (h *Handler) createContainer(c *call) error {
	var req api.CreateRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	if req.Config == nil {
		return errdefs.New(errdefs.Invalid, "config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &api.HostConfig{}
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	resp, err := h.s.Lifecycle.Create(c.Context(), c.query.Get("name"), req, c.query.Get("platform"))
	if err != nil {
		return err
	}
	if resp.Warnings == nil {
		resp.Warnings = []string{} // clients want a list
	}
	return c.replyStatus(http.StatusCreated, resp)
}

func (h *Handler) startContainer(c *call) error {
	return c.done(h.s.Lifecycle.Start(c.Context(), c.name))
}

// stopOptions reads what stop and restart have in common.
func (c *call) stopOptions() (container.StopOptions, error) {
	o := container.StopOptions{Signal: c.query.Get("signal")}
	if c.query.Get("t") != "" {
		t, err := c.integer("t", 0)
		if err != nil {
			return o, err
		}
		o.Timeout = &t
	}
	return o, nil
}

func (h *Handler) stopContainer(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	return c.done(h.s.Lifecycle.Stop(c.Context(), c.name, o))
}

func (h *Handler) restartContainer(c *call) error {
	o, err := c.stopOptions()
	if err != nil {
		return err
	}
	return c.done(h.s.Lifecycle.Restart(c.Context(), c.name, o))
}

func (h *Handler) killContainer(c *call) error {
	return c.done(h.s.Lifecycle.Kill(c.Context(), c.name, c.query.Get("signal")))
}

func (h *Handler) pauseContainer(c *call) error {
	return c.done(h.s.Lifecycle.Pause(c.Context(), c.name))
}

func (h *Handler) unpauseContainer(c *call) error {
	return c.done(h.s.Lifecycle.Unpause(c.Context(), c.name))
}

func (h *Handler) removeContainer(c *call) error {
	if c.boolean("link") {
		return errdefs.New(errdefs.NotImplemented, "remove link %s: Lade has no container links", c.name)
	}
	return c.done(h.s.Lifecycle.Remove(c.Context(), c.name, container.RemoveOptions{Force: c.boolean("force"), Volumes: c.boolean("v")}))
}

func (h *Handler) renameContainer(c *call) error {
	return c.done(h.s.States.Rename(c.Context(), c.name, c.query.Get("name")))
}

func (h *Handler) updateContainer(c *call) error {
	var u api.UpdateConfig
	if err := c.decode(&u); err != nil {
		return err
	}
	resp, err := h.s.States.Update(c.Context(), c.name, u)
	if err != nil {
		return err
	}
	return c.reply(resp)
}

func (h *Handler) listContainers(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	limit, err := c.integer("limit", 0)
	if err != nil {
		return err
	}
	list, err := h.s.States.List(c.Context(), container.ListOptions{
		All: c.boolean("all"), Limit: max(limit, 0), Size: c.boolean("size"), Filters: filters,
	})
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.Summary{}
	}
	return c.reply(list)
}

func (h *Handler) inspectContainer(c *call) error {
	resp, err := h.s.States.Inspect(c.Context(), c.name, c.boolean("size"))
	if err != nil {
		return err
	}
	end, err := h.s.States.End(c.Context(), resp.ID)
	if err != nil {
		return err
	}
	if c.version.before(52) {
		return c.reply(inspectBefore52{inspected{resp, end}, legacyNetworkSettings(resp.NetworkSettings)})
	}
	return c.reply(inspected{resp, end})
}

// inspected is a container's description with what Lade knows beyond it.
type inspected struct {
	api.InspectResponse
	Lade *ladeapi.ContainerEnd `json:",omitempty"`
}

// inspectBefore52 is how a container was told of before version 1.52: with the
// address on the default network once more at the top, where scripts look.
type inspectBefore52 struct {
	inspected
	NetworkSettings *networkSettingsBefore52
}

type networkSettingsBefore52 struct {
	*api.NetworkSettings
	Bridge              string
	EndpointID          string
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	MacAddress          string
}

func legacyNetworkSettings(s *api.NetworkSettings) *networkSettingsBefore52 {
	if s == nil {
		return nil
	}
	old := &networkSettingsBefore52{NetworkSettings: s}
	if e := s.Networks[network.NetworkBridge]; e != nil {
		old.EndpointID = e.EndpointID
		old.Gateway = text(e.Gateway)
		old.IPAddress = text(e.IPAddress)
		old.IPPrefixLen = e.IPPrefixLen
		old.IPv6Gateway = text(e.IPv6Gateway)
		old.GlobalIPv6Address = text(e.GlobalIPv6Address)
		old.GlobalIPv6PrefixLen = e.GlobalIPv6PrefixLen
		old.MacAddress = e.MacAddress.String()
	}
	return old
}

// text returns what encoding makes of a value: no address is "".
func text(v interface{ MarshalText() ([]byte, error) }) string {
	b, err := v.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}

func (h *Handler) waitContainer(c *call) error {
	cond := api.WaitCondition(c.query.Get("condition"))
	switch cond {
	case "":
		cond = api.WaitConditionNotRunning
	case api.WaitConditionNotRunning, api.WaitConditionNextExit, api.WaitConditionRemoved:
	default:
		return errdefs.New(errdefs.Invalid, "invalid condition: %q", cond)
	}
	waiting, err := h.s.States.Wait(c.Context(), c.name, cond, c.query.Get(resumeWait))
	if err != nil {
		return err
	}
	// The headers tell the client that the wait stands: it starts the
	// container only then, so that a short life is not missed.
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(c.w).Flush(); err != nil {
		return err
	}
	select {
	case resp, ok := <-waiting.Answer:
		if !ok {
			resp = api.WaitResponse{StatusCode: -1, Error: &api.WaitExitError{Message: "the engine gave up waiting"}}
		}
		_ = json.NewEncoder(c.w).Encode(resp)
		return nil
	case <-h.leaving.begun:
		return h.leaving.carry(c, "/containers/"+waiting.ID+"/wait", url.Values{"condition": {string(cond)}, resumeWait: {waiting.Since}})
	case <-c.Context().Done():
		// The connection breaks: half an answer must not pass for a whole one.
		return c.Context().Err()
	}
}

func (h *Handler) resizeContainer(c *call) error {
	height, width, err := c.size()
	if err != nil {
		return err
	}
	if err := h.s.Streams.Resize(c.Context(), c.name, height, width); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) attachContainer(c *call) error {
	t := &takeover{c: c}
	return t.finish(h.s.Streams.Attach(c.Context(), c.name, container.AttachOptions{
		Stdin: c.boolean("stdin"), Stdout: c.boolean("stdout"), Stderr: c.boolean("stderr"),
		Stream: c.boolean("stream"), Logs: c.boolean("logs"), DetachKeys: c.query.Get("detachKeys"),
	}, t.hijack))
}
