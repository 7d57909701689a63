// Package userns says which containers can have a user namespace of their own,
// and with whom they share one.
package userns

import api "github.com/moby/moby/api/types/container"

// WhyNone says what in a request rules out a user namespace of the container's
// own, or "". To share a namespace of the host's while owning nothing in it
// would break more than it protects.
func WhyNone(h *api.HostConfig) string {
	switch {
	case h.UsernsMode.IsHost():
		return "--userns=host"
	case h.Privileged:
		return "--privileged"
	case h.NetworkMode.IsHost():
		return "--network=host"
	case h.PidMode.IsHost():
		return "--pid=host"
	case h.IpcMode.IsHost():
		return "--ipc=host"
	}
	return ""
}

// Joined returns the containers whose namespaces a request asks to share.
func Joined(h *api.HostConfig) []string {
	var out []string
	for _, ref := range []string{h.NetworkMode.ConnectedContainer(), h.PidMode.Container(), h.IpcMode.Container()} {
		if ref != "" {
			out = append(out, ref)
		}
	}
	return out
}
