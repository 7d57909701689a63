// Package logdriver reads what a request says of a container's log: the driver
// and its options, which are Docker's.
//
// Whatever the driver, the container's shim keeps a bounded log that Lade reads
// itself; only "none" keeps nothing. The others write the same lines elsewhere,
// too.
package logdriver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/logs/forward"
)

// Local is the driver of containers that ask for none: the log that Lade keeps.
const Local = "local"

// None keeps nothing.
const None = "none"

// Names returns the drivers there are.
func Names() []string {
	return []string{forward.JSONFile, Local, forward.Journald, forward.Syslog, None}
}

// options returns the options that a driver takes, or false for no such driver.
func options(driver string) ([]string, bool) {
	common := []string{"mode", "max-buffer-size"}
	details := []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	size := []string{"max-size", "max-file", "compress"}
	switch driver {
	case forward.JSONFile:
		return slices.Concat(common, details, size), true
	case Local, "", "lade":
		// Docker's client and compose files give these to whatever the default is.
		return slices.Concat(common, details, size), true
	case forward.Syslog:
		return slices.Concat(common, details, size, []string{"syslog-address", "syslog-facility", "syslog-format"}), true
	case forward.Journald:
		return slices.Concat(common, details, size), true
	case None:
		return nil, true
	}
	return nil, false
}

// Check checks what a request says.
func Check(l api.LogConfig) error {
	known, ok := options(l.Type)
	if !ok {
		return errdefs.Hint(errdefs.New(errdefs.Invalid, "logger: no log driver named '%s' is registered", l.Type), "use one of %s", strings.Join(Names(), ", "))
	}
	if l.Type == None {
		return nil
	}
	for k := range l.Config {
		if !slices.Contains(known, k) {
			return errdefs.New(errdefs.Invalid, "unknown log opt '%s' for log driver %s", k, l.Type)
		}
	}
	if _, _, err := size(l); err != nil {
		return err
	}
	switch mode := l.Config["mode"]; mode {
	case "", "non-blocking", "blocking": // neither blocks the container
	default:
		return errdefs.New(errdefs.Invalid, "invalid value %q for log opt mode: want blocking or non-blocking", mode)
	}
	for _, k := range []string{"labels-regex", "env-regex"} {
		if _, err := regexp.Compile(l.Config[k]); err != nil {
			return errdefs.New(errdefs.Invalid, "invalid value for log opt %s: %w", k, err)
		}
	}
	if _, err := expand(l.Config["tag"], Info{ID: strings.Repeat("0", 64), ImageID: "sha256:" + strings.Repeat("0", 64)}); err != nil {
		return err
	}
	if l.Type == forward.JSONFile && l.Config["compress"] == "true" {
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "log opt compress: files of json-file are not compressed"), "leave it out; the file system may compress")
	}
	if l.Type == forward.Syslog {
		var c forward.Config
		return syslog(l, &c)
	}
	return nil
}

// size returns max-size and max-file; 0 where they are not given.
func size(l api.LogConfig) (bytes int64, files int, err error) {
	for k, v := range l.Config {
		switch k {
		case "max-size":
			if v != "-1" {
				bytes, err = units.RAMInBytes(v)
			}
			if err == nil && bytes < 0 {
				err = fmt.Errorf("it is negative")
			}
		case "max-file":
			var n int64
			if n, err = strconv.ParseInt(v, 10, 32); err == nil && n < 1 {
				err = fmt.Errorf("it must be at least 1")
			}
			files = int(n)
		}
		if err != nil {
			return 0, 0, errdefs.New(errdefs.Invalid, "invalid value %q for log opt %s: %w", v, k, err)
		}
	}
	if bytes > 0 && int64(files) > (1<<62)/bytes {
		return 0, 0, errdefs.New(errdefs.Invalid, "max-size times max-file is out of range")
	}
	return bytes, files, nil
}

// Bytes returns how much of a log is kept: max-size times max-file, 0 where
// they are not given. l has been checked.
func Bytes(l api.LogConfig) int64 {
	bytes, files, _ := size(l)
	return bytes * int64(max(files, 1))
}

// Info is what there is to say of a container with each line; the names are
// those that Docker's templates for tags have.
type Info struct {
	ID, ContainerName, ImageID, ImageName, Entrypoint string
	Env                                               []string
	Labels                                            map[string]string
}

// tag is what a template for a tag sees.
type tag struct{ ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName, Command string }

// expand returns a tag: Docker's default is the short id.
func expand(text string, i Info) (string, error) {
	if text == "" {
		text = "{{.ID}}"
	}
	t, err := template.New("tag").Option("missingkey=error").Parse(text)
	var b strings.Builder
	if err == nil {
		err = t.Execute(&b, tag{
			ID: i.ID[:min(12, len(i.ID))], FullID: i.ID, Name: strings.TrimPrefix(i.ContainerName, "/"),
			ImageID: short(i.ImageID), ImageFullID: i.ImageID, ImageName: i.ImageName, DaemonName: "docker", Command: i.Entrypoint,
		})
	}
	if err != nil {
		return "", errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid value %q for log opt tag: %w", text, err), "use {{.ID}}, {{.Name}}, {{.ImageName}} and the like")
	}
	return b.String(), nil
}

func short(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return hex[:min(12, len(hex))]
}

// JSONFile returns the path of a container's file of json-file; dir is the
// container's.
func JSONFile(dir, id string) string { return filepath.Join(dir, id+"-json.log") }

// Forward returns what the shim is to do besides keeping the log; dir is the
// container's directory. l has been checked.
func Forward(l api.LogConfig, i Info, dir string) (forward.Config, error) {
	c := forward.Config{Driver: l.Type}
	tag, err := expand(l.Config["tag"], i)
	if err != nil {
		return c, err
	}
	switch l.Type {
	case forward.JSONFile:
		c.Path = JSONFile(dir, i.ID)
		c.MaxBytes, c.MaxFiles, err = size(l)
		if c.Attrs = details(l, i); l.Config["tag"] != "" {
			c.Attrs["tag"] = tag
		}
		return c, err
	case forward.Syslog:
		c.Tag = tag
		c.Hostname, _ = os.Hostname()
		return c, syslog(l, &c)
	case forward.Journald:
		c.Tag = tag
		c.Fields = map[string]string{
			"CONTAINER_ID": i.ID[:min(12, len(i.ID))], "CONTAINER_ID_FULL": i.ID, "CONTAINER_NAME": strings.TrimPrefix(i.ContainerName, "/"),
			"CONTAINER_TAG": tag, "IMAGE_NAME": i.ImageName,
		}
		for k, v := range details(l, i) {
			if k = fieldName(k); k != "" {
				c.Fields[k] = v
			}
		}
		return c, nil
	}
	return forward.Config{}, nil
}

// details returns the labels and the variables of the environment that the
// options name.
func details(l api.LogConfig, i Info) map[string]string {
	out := map[string]string{}
	pick := func(list, pattern, k, v string) {
		re, err := regexp.Compile(pattern)
		if slices.Contains(strings.Split(list, ","), k) || pattern != "" && err == nil && re.MatchString(k) {
			out[k] = v
		}
	}
	for k, v := range i.Labels {
		pick(l.Config["labels"], l.Config["labels-regex"], k, v)
	}
	for _, e := range i.Env {
		k, v, _ := strings.Cut(e, "=")
		pick(l.Config["env"], l.Config["env-regex"], k, v)
	}
	return out
}

// fieldName returns a name as the journal takes it: capitals, digits and _, not
// at the beginning (systemd.journal-fields(7)).
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
	return strings.TrimLeft(s, "_0123456789")
}

// facilities by name (RFC 5424, 6.2.1).
func facility(name string) (int, bool) {
	names := strings.Fields("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp")
	if i := slices.Index(names, name); i >= 0 {
		return i, true
	}
	if n, ok := strings.CutPrefix(name, "local"); ok && len(n) == 1 && n[0] >= '0' && n[0] <= '7' {
		return 16 + int(n[0]-'0'), true
	}
	n, err := strconv.Atoi(name)
	return n, err == nil && n >= 0 && n <= 23
}

// syslog reads the options of that driver. Names of hosts are looked up here:
// the shim cannot.
func syslog(l api.LogConfig, c *forward.Config) error {
	c.Facility = 3 // daemon
	if f := l.Config["syslog-facility"]; f != "" {
		n, ok := facility(f)
		if !ok {
			return errdefs.New(errdefs.Invalid, "invalid syslog facility %q: want a name such as daemon or local0, or a number up to 23", f)
		}
		c.Facility = n
	}
	switch c.Format = l.Config["syslog-format"]; c.Format {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return errdefs.New(errdefs.Invalid, "invalid syslog format %q: want rfc3164, rfc5424 or rfc5424micro", c.Format)
	}
	address := l.Config["syslog-address"]
	if address == "" {
		return nil
	}
	network, rest, ok := strings.Cut(address, "://")
	if !ok {
		return errdefs.New(errdefs.Invalid, "invalid syslog address %q: want unix:///PATH, udp://HOST:PORT or tcp://HOST:PORT", address)
	}
	c.Network = network
	switch network {
	case "unix", "unixgram":
		if c.Address = rest; !filepath.IsAbs(rest) || len(rest) > 107 {
			return errdefs.New(errdefs.Invalid, "invalid syslog address %q: want an absolute path of at most 107 bytes", address)
		}
		return nil
	case "udp", "tcp":
		var err error
		c.Address, err = resolve(rest)
		return err
	}
	return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "syslog address %q: no such transport", address), "use unix, unixgram, udp or tcp; for TLS, send to a syslog daemon on this host")
}

// lookupTimeout bounds how long a name server may take.
const lookupTimeout = 5 * time.Second

// resolve returns the address of a host and port; 514 where no port is given.
func resolve(hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		host, port = strings.Trim(hostPort, "[]"), "514"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" {
		return "", errdefs.New(errdefs.Invalid, "invalid syslog address %q: want HOST:PORT", hostPort)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
		defer cancel()
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return "", errdefs.New(errdefs.Invalid, "invalid syslog address %q: %w", hostPort, err)
		}
		ip = found[0]
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String(), nil
}
