// Package change applies instructions of a Dockerfile to an image's
// configuration, as `import --change` and `commit --change` do. It is pure.
//
// Only instructions that change nothing but the configuration are known: CMD,
// ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL,
// USER, VOLUME and WORKDIR.
package change

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	spec "github.com/moby/docker-image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// Apply applies instructions in order. On error c may be half changed.
func Apply(c *spec.DockerOCIImageConfig, instructions []string) error {
	for _, text := range instructions {
		if err := apply(c, strings.TrimSpace(text)); err != nil {
			return errdefs.New(errdefs.Invalid, "change %.200q: %w", text, err)
		}
	}
	return nil
}

func apply(c *spec.DockerOCIImageConfig, text string) error {
	name, rest, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return bad("%s needs an argument", strings.ToUpper(name))
	}
	switch strings.ToUpper(name) {
	case "CMD":
		c.Cmd = command(c, rest)
	case "ENTRYPOINT":
		c.Entrypoint = command(c, rest)
	case "ENV":
		return pairs(rest, func(k, v string) {
			c.Env = append(slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, k+"=") }), k+"="+v)
		})
	case "LABEL":
		return pairs(rest, func(k, v string) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		})
	case "EXPOSE":
		return expose(c, rest)
	case "VOLUME":
		return volumes(c, rest)
	case "USER":
		c.User = rest
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", c.WorkingDir, rest)
		}
		c.WorkingDir = path.Clean(rest)
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "SHELL":
		list, ok := jsonList(rest)
		if !ok || len(list) == 0 {
			return bad("SHELL wants a JSON list")
		}
		c.Shell = list
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "HEALTHCHECK":
		return health(c, rest)
	default:
		return bad("%s is not a valid change command", name)
	}
	return nil
}

func bad(format string, args ...any) error { return errdefs.New(errdefs.Invalid, format, args...) }

// command reads a command: a JSON list, or a line for the shell.
func command(c *spec.DockerOCIImageConfig, s string) []string {
	if list, ok := jsonList(s); ok {
		return list
	}
	shell := c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), s)
}

func jsonList(s string) ([]string, bool) {
	var list []string
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

// pairs reads KEY=VALUE ..., or the old KEY VALUE.
func pairs(s string, set func(k, v string)) error {
	all, err := words(s)
	if err != nil {
		return err
	}
	if !strings.Contains(all[0], "=") {
		key, value, ok := strings.Cut(s, " ")
		if !ok {
			return bad("want key=value")
		}
		set(key, strings.TrimSpace(value))
		return nil
	}
	for _, w := range all {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return bad("%.100q: want key=value", w)
		}
		set(key, value)
	}
	return nil
}

// words parts a line at blanks that are neither quoted nor escaped.
func words(s string) ([]string, error) {
	var all []string
	var w strings.Builder
	in, quote, some := false, rune(0), false
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			w.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			w.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in = r, true
		case r == ' ':
			if in {
				all = append(all, w.String())
				w.Reset()
			}
			in = false
		default:
			w.WriteRune(r)
			in = true
		}
		some = some || in
	}
	if quote != 0 || escaped {
		return nil, bad("a quote is not closed")
	}
	if in {
		all = append(all, w.String())
	}
	if !some {
		return nil, bad("it is empty")
	}
	return all, nil
}

func expose(c *spec.DockerOCIImageConfig, s string) error {
	all, err := words(s)
	if err != nil {
		return err
	}
	for _, w := range all {
		number, proto, ok := strings.Cut(w, "/")
		if !ok {
			proto = "tcp"
		}
		first, last, ranged := strings.Cut(number, "-")
		from, err1 := strconv.ParseUint(first, 10, 16)
		to := from
		if ranged {
			n, err := strconv.ParseUint(last, 10, 16)
			if err != nil || n < from {
				return bad("%.50q is no port", w)
			}
			to = n
		}
		if err1 != nil || from == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, strings.ToLower(proto)) {
			return bad("%.50q is no port", w)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		for n := from; n <= to; n++ {
			c.ExposedPorts[strconv.FormatUint(n, 10)+"/"+strings.ToLower(proto)] = struct{}{}
		}
	}
	return nil
}

func volumes(c *spec.DockerOCIImageConfig, s string) error {
	all, ok := jsonList(s)
	if !ok {
		var err error
		if all, err = words(s); err != nil {
			return err
		}
	}
	for _, v := range all {
		if strings.TrimSpace(v) == "" {
			return bad("VOLUME specified can not be an empty string")
		}
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
	return nil
}

// health reads HEALTHCHECK NONE, or [--interval=…] CMD command.
func health(c *spec.DockerOCIImageConfig, s string) error {
	h := &spec.HealthcheckConfig{}
	for strings.HasPrefix(s, "--") {
		option, rest, _ := strings.Cut(s, " ")
		s = strings.TrimSpace(rest)
		key, value, _ := strings.Cut(option, "=")
		if key == "--retries" {
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 {
				return bad("--retries %q is no number", value)
			}
			h.Retries = n
			continue
		}
		to := map[string]*time.Duration{"--interval": &h.Interval, "--timeout": &h.Timeout, "--start-period": &h.StartPeriod, "--start-interval": &h.StartInterval}[key]
		d, err := time.ParseDuration(value)
		if to == nil || err != nil || d < 0 || d > 0 && d < time.Millisecond {
			return bad("HEALTHCHECK does not know %.50q", option)
		}
		*to = d
	}
	kind, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		h = &spec.HealthcheckConfig{Test: []string{"NONE"}}
	case "CMD":
		if rest == "" {
			return bad("HEALTHCHECK CMD needs a command")
		}
		h.Test = []string{"CMD-SHELL", rest}
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		}
	default:
		return bad("HEALTHCHECK wants CMD or NONE")
	}
	c.Healthcheck = h
	return nil
}
