package auth

import (
	"net/http"
	"net/url"
	"testing"
)

// TestTrusts lists which token servers see a registry's credentials.
func TestTrusts(t *testing.T) {
	tests := []struct {
		registry, realm string
		want            bool
	}{
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true},
		{"https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true},
		{"https://ghcr.io", "https://ghcr.io/token", true},
		{"https://ghcr.io", "https://ghcr.io:443/token", true},
		{"https://r.example.co.uk", "https://a.example.co.uk", true},
		{"http://127.0.0.1:5000", "http://127.0.0.1:5000/token", true},

		{"https://r.example.co.uk", "https://other.co.uk", false},
		{"https://a.github.io", "https://b.github.io", false},
		{"https://ghcr.io", "http://ghcr.io/token", false},
		{"https://ghcr.io", "https://evil.io/token", false},
		{"https://ghcr.io", "https://ghcr.io.evil.io/token", false},
		{"https://10.0.0.1", "https://10.0.0.2", false},
		{"https://10.0.0.1:5000", "https://10.0.0.1:5001", false},
		{"http://127.0.0.1:5000", "http://127.0.0.1:5001/token", false},
		{"http://127.0.0.1:5000", "http://localhost:5000/token", false},
		{"http://localhost:5000", "https://evil.io/token", false},
		{"https://localhost", "https://com", false},
	}
	for _, tt := range tests {
		registry, err1 := url.Parse(tt.registry)
		realm, err2 := url.Parse(tt.realm)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		s := NewSession(registry, "", Credentials{}, http.DefaultClient)
		if got := s.trusts(realm); got != tt.want {
			t.Errorf("registry %s, realm %s: trusted %v, want %v", tt.registry, tt.realm, got, tt.want)
		}
	}
}
