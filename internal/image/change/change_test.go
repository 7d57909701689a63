package change

import (
	"encoding/json"
	"testing"

	spec "github.com/moby/docker-image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

func TestApply(t *testing.T) {
	for _, tt := range []struct {
		want string
		in   []string
	}{
		{`{"Cmd":["/bin/sh","-c","echo \"a b\""]}`, []string{`CMD echo "a b"`}},
		{`{"Entrypoint":["c"],"Cmd":["a","b"]}`, []string{`cmd ["a", "b"]`, `ENTRYPOINT ["c"]`}},
		{`{"Cmd":["/bin/bash","-c","x"],"Shell":["/bin/bash","-c"]}`, []string{`SHELL ["/bin/bash","-c"]`, "CMD x"}},
		{`{"Env":["B=2 3","A=4","C=it's"]}`, []string{`ENV A=1 B="2 3"`, "ENV A=4", `ENV C=it\'s`}},
		{`{"Env":["A=b c"]}`, []string{"ENV A b c"}},
		{`{"Labels":{"a":"","b":"c=d"}}`, []string{`LABEL a= b=c=d`}},
		{`{"ExposedPorts":{"53/udp":{},"80/tcp":{},"81/tcp":{}}}`, []string{"EXPOSE 80-81 53/UDP"}},
		{`{"Volumes":{"/a":{},"/b":{},"/c d":{}}}`, []string{"VOLUME /a /b", `VOLUME ["/c d"]`}},
		{`{"User":"1:2","WorkingDir":"/a/b","StopSignal":"SIGINT"}`, []string{"USER 1:2", "WORKDIR /a/", "WORKDIR b", "STOPSIGNAL SIGINT"}},
		{`{"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000,"Retries":2}}`, []string{"HEALTHCHECK --interval=1s --retries=2 CMD true"}},
		{`{"Healthcheck":{"Test":["NONE"]},"OnBuild":["RUN x"]}`, []string{"HEALTHCHECK NONE", "ONBUILD RUN x"}},
	} {
		var c spec.DockerOCIImageConfig
		err := Apply(&c, tt.in)
		got, _ := json.Marshal(c)
		if err != nil || string(got) != tt.want {
			t.Errorf("%q: %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "CMD", "RUN x", "FROM x", "ENV A", `ENV A="1`, "ENV =1", "EXPOSE x", "EXPOSE 0", "EXPOSE 99999", "EXPOSE 9-8", "EXPOSE 1/x", "SHELL x", `VOLUME [""]`, "HEALTHCHECK x", "HEALTHCHECK --interval=x CMD a", "HEALTHCHECK CMD"} {
		if err := Apply(&spec.DockerOCIImageConfig{}, []string{in}); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add(`ENV A="1 2" B=3`)
	f.Add(`HEALTHCHECK --interval=1s CMD ["x"]`)
	f.Add(`EXPOSE 1-3/udp`)
	f.Fuzz(func(t *testing.T, in string) {
		var c spec.DockerOCIImageConfig
		if Apply(&c, []string{in}) != nil {
			return
		}
		if _, err := json.Marshal(c); err != nil {
			t.Fatal(err)
		}
	})
}
