package logdriver

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/logs/forward"
)

func config(driver string, options ...string) api.LogConfig {
	c := api.LogConfig{Type: driver, Config: map[string]string{}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		c.Config[k] = v
	}
	return c
}

func TestCheck(t *testing.T) {
	for _, c := range []api.LogConfig{
		{},
		config(Local, "max-size=10m", "max-file=3"), config("json-file", "compress=false", "labels=a,b", "env-regex=^X", "tag={{.Name}}/{{.ID}}"),
		config("syslog", "syslog-address=udp://127.0.0.1", "syslog-facility=local7", "syslog-format=rfc5424micro"), config("syslog"),
		config("syslog", "syslog-address=unix:///dev/log"), config("journald", "tag=x", "mode=non-blocking"), config("none", "max-size=x"),
	} {
		if err := Check(c); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
	for text, c := range map[string]api.LogConfig{
		"no log driver named 'smoke'":  config("smoke"),
		"unknown log opt 'fast'":       config(Local, "fast=true"),
		"unknown log opt 'syslog-":     config(Local, "syslog-facility=daemon"),
		"log opt max-size":             config(Local, "max-size=x"),
		"at least 1":                   config(Local, "max-file=0"),
		"out of range":                 config(Local, "max-size=8000000t", "max-file=2000000000"),
		"log opt mode":                 config(Local, "mode=sometimes"),
		"log opt env-regex":            config("json-file", "env-regex=("),
		"log opt tag":                  config("json-file", "tag={{.Nope}}"),
		"not compressed":               config("json-file", "compress=true"),
		"invalid syslog facility":      config("syslog", "syslog-facility=local8"),
		"invalid syslog format":        config("syslog", "syslog-format=xml"),
		"invalid syslog address":       config("syslog", "syslog-address=127.0.0.1"),
		"no such transport":            config("syslog", "syslog-address=tcp+tls://127.0.0.1:1"),
		"want an absolute path":        config("syslog", "syslog-address=unix://dev/log"),
		"want HOST:PORT":               config("syslog", "syslog-address=udp://:514"),
		"invalid syslog address \"a:b": config("syslog", "syslog-address=udp://a:b"),
	} {
		if err := Check(c); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: %v, want %q", c, err, text)
		}
	}
}

func TestBytes(t *testing.T) {
	for want, c := range map[int64]api.LogConfig{0: config(Local, "max-file=3"), 30 << 20: config(Local, "max-size=10m", "max-file=3"), 5 << 20: config(Local, "max-size=5m")} {
		if got := Bytes(c); got != want {
			t.Errorf("%v: %d, want %d", c, got, want)
		}
	}
}

func TestForward(t *testing.T) {
	id := strings.Repeat("abc", 21) + "d"
	info := Info{
		ID: id, ContainerName: "/web", ImageID: "sha256:" + strings.Repeat("12", 32), ImageName: "nginx:1", Entrypoint: "nginx -g",
		Env: []string{"TIER=front", "SECRET=x", "EMPTY"}, Labels: map[string]string{"org.team": "a", "other": "b"},
	}
	for _, tt := range []struct {
		c    api.LogConfig
		want forward.Config
	}{
		{config(Local), forward.Config{}},
		{config(None), forward.Config{}},
		{
			config("json-file", "max-size=1k", "max-file=2", "labels=other", "env-regex=^TI", "tag={{.Name}}-{{.ImageID}}"),
			forward.Config{Driver: "json-file", Path: "/c/" + id + "-json.log", MaxBytes: 1024, MaxFiles: 2, Attrs: map[string]string{"other": "b", "TIER": "front", "tag": "web-121212121212"}},
		},
		{
			config("journald", "labels-regex=^org"),
			forward.Config{Driver: "journald", Tag: id[:12], Fields: map[string]string{
				"CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": "web", "CONTAINER_TAG": id[:12], "IMAGE_NAME": "nginx:1", "ORG_TEAM": "a",
			}},
		},
		{
			config("syslog", "syslog-address=udp://[::1]:1514", "syslog-facility=local1", "syslog-format=rfc3164", "tag={{.Command}}"),
			forward.Config{Driver: "syslog", Network: "udp", Address: "[::1]:1514", Facility: 17, Format: "rfc3164", Tag: "nginx -g"},
		},
	} {
		got, err := Forward(tt.c, info, "/c")
		if err != nil {
			t.Fatal(err)
		}
		got.Hostname = ""
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", tt.c, d)
		}
	}
}
