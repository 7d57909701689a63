package container

import (
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container/record"
)

func testDefinition() record.Definition {
	return record.Definition{ID: "id", Config: &api.Config{}, Host: &api.HostConfig{}}
}

func testState(status api.ContainerState, code int, now time.Time) record.State {
	return record.State{Status: status, ExitCode: code, StartedAt: now.Add(-3 * time.Minute), FinishedAt: now.Add(-2 * time.Hour)}
}

func bindMount(source, target string) mount.Mount {
	return mount.Mount{Type: mount.TypeBind, Source: source, Target: target}
}
