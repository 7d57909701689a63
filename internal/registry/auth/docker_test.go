package auth

import (
	"encoding/base64"
	"testing"

	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
)

func TestFromDocker(t *testing.T) {
	tests := []struct {
		in     *registry.AuthConfig
		domain string
		want   Credentials
		class  errdefs.Class
	}{
		{nil, "docker.io", Credentials{}, 255},
		{&registry.AuthConfig{Username: "u", Password: "p"}, "ghcr.io", Credentials{Username: "u", Password: "p"}, 255},
		{&registry.AuthConfig{Auth: base64.StdEncoding.EncodeToString([]byte("u:p:q"))}, "ghcr.io", Credentials{Username: "u", Password: "p:q"}, 255},
		{&registry.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://index.docker.io/v1/"}, "docker.io", Credentials{Username: "u", Password: "p"}, 255},
		{&registry.AuthConfig{Username: "u", Password: "p", ServerAddress: "ghcr.io"}, "ghcr.io", Credentials{Username: "u", Password: "p"}, 255},
		{&registry.AuthConfig{Username: "u", Password: "p", ServerAddress: "ghcr.io"}, "evil.io", Credentials{}, errdefs.Invalid},
		{&registry.AuthConfig{ServerAddress: "ghcr.io"}, "evil.io", Credentials{}, 255},
		{&registry.AuthConfig{Auth: "%%%"}, "ghcr.io", Credentials{}, errdefs.Invalid},
	}
	for i, tt := range tests {
		got, err := FromDocker(tt.in, tt.domain)
		if got != tt.want || (err == nil) != (tt.class == 255) || err != nil && !errdefs.Is(err, tt.class) {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
}
