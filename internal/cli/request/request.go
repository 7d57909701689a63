package request

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
)

// Request puts the create request together for an image and a command.
func (f *Flags) Request(image string, args []string, entrypointGiven bool) (container.CreateRequest, error) {
	c, h := f.config, f.host
	c.Image, c.Cmd = image, args
	c.Volumes = map[string]struct{}{}
	for _, v := range f.volumes {
		if strings.Contains(v, ":") {
			h.Binds = append(h.Binds, v)
		} else {
			c.Volumes[v] = struct{}{}
		}
	}
	switch {
	case f.entrypoint != "":
		c.Entrypoint = []string{f.entrypoint}
	case entrypointGiven: // --entrypoint "" takes the image's away
		c.Entrypoint = []string{""}
	}
	var err error
	if c.Env, err = f.environment(); err != nil {
		return container.CreateRequest{}, err
	}
	if c.Labels, err = f.allLabels(); err != nil {
		return container.CreateRequest{}, err
	}
	if err := f.security(&h); err != nil {
		return container.CreateRequest{}, err
	}
	if h.NetworkMode == "" {
		h.NetworkMode = network.NetworkDefault
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return container.CreateRequest{}, invalid("conflicting options: cannot specify both --restart and --rm")
	}
	if c.Healthcheck, err = f.healthcheck(); err != nil {
		return container.CreateRequest{}, err
	}
	f.annotate(&h)
	if err := f.finishNetworks(); err != nil {
		return container.CreateRequest{}, err
	}
	c.StdinOnce = false
	return container.CreateRequest{
		Config: &c, HostConfig: &h,
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: f.networks},
	}, nil
}

// annotate adds what Lade knows and Docker does not, where Docker's clients can
// ask for it too.
func (f *Flags) annotate(h *container.HostConfig) {
	for key, v := range map[string]string{"lade.on-unhealthy": f.onUnhealthy, "lade.depends-on": strings.Join(f.dependsOn, ",")} {
		if v == "" {
			continue
		}
		h.Annotations = maps.Clone(h.Annotations)
		if h.Annotations == nil {
			h.Annotations = map[string]string{}
		}
		h.Annotations[key] = v
	}
}

// healthcheck returns the health check that the flags ask for; nil leaves it to
// the image.
func (f *Flags) healthcheck() (*container.HealthConfig, error) {
	h := f.health
	if f.healthCmd != "" {
		h.Test = []string{"CMD-SHELL", f.healthCmd}
	}
	asked := len(h.Test) > 0 || h.Interval != 0 || h.Timeout != 0 || h.Retries != 0 || h.StartPeriod != 0 || h.StartInterval != 0
	switch {
	case f.noHealth && asked:
		return nil, invalid("--no-healthcheck conflicts with --health-* options")
	case f.noHealth:
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	case h.Interval < 0:
		return nil, invalid("--health-interval cannot be negative")
	case h.Timeout < 0:
		return nil, invalid("--health-timeout cannot be negative")
	case h.Retries < 0:
		return nil, invalid("--health-retries cannot be negative")
	case h.StartPeriod < 0:
		return nil, invalid("--health-start-period cannot be negative")
	case h.StartInterval < 0:
		return nil, invalid("--health-start-interval cannot be negative")
	case !asked:
		return nil, nil
	}
	return &h, nil
}

// environment returns the variables of files, then those of flags: the latter
// win.
func (f *Flags) environment() ([]string, error) {
	var env []string
	for _, name := range f.envFiles {
		lines, err := f.keyValueFile(name, os.LookupEnv)
		if err != nil {
			return nil, fmt.Errorf("read environment: %w", err)
		}
		env = append(env, lines...)
	}
	return append(env, f.env...), nil
}

func (f *Flags) allLabels() (map[string]string, error) {
	var all []string
	for _, name := range f.labelFiles {
		lines, err := f.keyValueFile(name, nil)
		if err != nil {
			return nil, fmt.Errorf("read labels: %w", err)
		}
		all = append(all, lines...)
	}
	labels := map[string]string{}
	for _, l := range append(all, f.labels...) {
		k, v, _ := strings.Cut(l, "=")
		labels[k] = v
	}
	return labels, nil
}

// EnvFile reads files of environment variables, for commands other than run.
func EnvFile(names, env []string) ([]string, error) {
	f := Flags{envFiles: names, env: env, readFile: os.ReadFile}
	return f.environment()
}

// Environment completes a variable given by name alone.
func Environment(s string) (string, error) { return environment(s) }

func (f *Flags) keyValueFile(name string, lookup func(string) (string, bool)) ([]string, error) {
	text, err := f.readFile(name)
	if err != nil {
		return nil, err
	}
	lines, err := keyValues(text, lookup)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines, nil
}

// keyValues parses a file of Docker's: one key=value a line, taken literally;
// '#' begins a comment at the start of a line only. With a lookup, a key alone
// takes its value from there, or is left out.
func keyValues(text []byte, lookup func(string) (string, bool)) ([]string, error) {
	var lines []string
	s := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimLeftFunc(s.Text(), unicode.IsSpace)
		key, val, given := strings.Cut(line, "=")
		switch {
		case !utf8.ValidString(line):
			return nil, invalid("line %d is not UTF-8", n)
		case line == "" || line[0] == '#':
			continue
		case key == "":
			return nil, invalid("line %d: no name before the equals sign", n)
		case strings.ContainsFunc(key, unicode.IsSpace):
			return nil, invalid("line %d: the name %q contains a blank", n, key)
		case !given && lookup != nil:
			v, ok := lookup(key)
			if !ok {
				continue
			}
			val = v
		}
		lines = append(lines, key+"="+val)
	}
	if err := s.Err(); err != nil {
		return nil, invalid("%w", err)
	}
	return lines, nil
}

// security reads what --security-opt names: a seccomp profile is a file here,
// and the engine gets its text.
func (f *Flags) security(h *container.HostConfig) error {
	for _, opt := range f.securityOpt {
		key, val, given := strings.Cut(opt, "=")
		if !given {
			key, val, given = strings.Cut(opt, ":")
		}
		switch {
		case key == "no-new-privileges":
		case !given || val == "":
			err := invalid("security option %q: want name=value", opt)
			return errdefs.Hint(err, "for example seccomp=profile.json or no-new-privileges")
		case key == "systempaths" && val == "unconfined":
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		case key == "seccomp" && val != "unconfined" && val != "builtin":
			text, err := f.readFile(val)
			if err != nil {
				return fmt.Errorf("read seccomp profile: %w", err)
			}
			var b bytes.Buffer
			if err := json.Compact(&b, text); err != nil {
				return invalid("seccomp profile %s: %w", val, err)
			}
			opt = "seccomp=" + b.String()
		}
		h.SecurityOpt = append(h.SecurityOpt, opt)
	}
	return nil
}
