package request

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

func TestGPUsAndDevices(t *testing.T) {
	gpu := [][]string{{"gpu"}}
	for _, test := range []struct {
		args string
		want []container.DeviceRequest
	}{
		{"--gpus all", []container.DeviceRequest{{Count: -1, Capabilities: gpu}}},
		{"--gpus 2", []container.DeviceRequest{{Count: 2, Capabilities: gpu}}},
		{"--gpus device=0", []container.DeviceRequest{{DeviceIDs: []string{"0"}, Capabilities: gpu}}},
		{`--gpus "device=0,1"`, []container.DeviceRequest{{DeviceIDs: []string{"0", "1"}, Capabilities: gpu}}},
		{"--gpus driver=nvidia,capabilities=utility", []container.DeviceRequest{{Driver: "nvidia", Count: 1, Capabilities: [][]string{{"utility", "gpu"}}}}},
		{"--gpus driver=cdi,count=all,options=a=b", []container.DeviceRequest{{Driver: "cdi", Count: -1, Capabilities: gpu, Options: map[string]string{"a": "b"}}}},
		{"--device acme.com/camera=front --device acme.com/camera=back", []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"acme.com/camera=front", "acme.com/camera=back"}}}},
		{"--device /dev/null:/dev/a=b", nil},
	} {
		r, err := parse(t, append(strings.Fields(test.args), "app")...)
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
			continue
		}
		if diff := cmp.Diff(test.want, r.HostConfig.DeviceRequests); diff != "" {
			t.Errorf("%s: %s", test.args, diff)
		}
	}
	for _, bad := range []string{"--gpus many", "--gpus -2", "--gpus count=1,2", "--gpus colour=red", "--device acme.com/camera", "--device camera=front"} {
		if _, err := parse(t, append(strings.Fields(bad), "app")...); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestOldFlags(t *testing.T) {
	for _, args := range []string{"--disable-content-trust", "--disable-content-trust=false", "--isolation default", "--kernel-memory 0", "--use-api-socket=false"} {
		if _, err := parse(t, append(strings.Fields(args), "app")...); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	}
	for args, want := range map[string]string{
		"--kernel-memory 50m": "--memory counts", "--isolation hyperv": "Windows", "--use-api-socket": "-v /run/lade/lade.sock",
		"--link a:b:c": "bad format", "--link :b": "bad format", "--link a:": "bad format",
	} {
		if _, err := parse(t, append(strings.Fields(args), "app")...); err == nil || !strings.Contains(err.Error()+errdefs.HintOf(err), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	r, err := parse(t, "--link", "db", "--link", "cache:c", "app")
	if err != nil || !cmp.Equal(r.HostConfig.Links, []string{"db:db", "cache:c"}) {
		t.Errorf("links %v, %v", r.HostConfig.Links, err)
	}
}
