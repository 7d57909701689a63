package wire

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseChallenges(t *testing.T) {
	tests := []struct {
		in   []string
		want []Challenge
	}{
		{
			[]string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull"`},
			[]Challenge{{"bearer", map[string]string{"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/debian:pull"}}},
		},
		{[]string{`Basic realm="a \"quoted\" name"`}, []Challenge{{"basic", map[string]string{"realm": `a "quoted" name`}}}},
		{[]string{`basic`}, []Challenge{{"basic", map[string]string{}}}},
		{
			[]string{`Basic realm=x, Bearer realm = "y" , service=z`, `Negotiate`},
			[]Challenge{{"basic", map[string]string{"realm": "x"}}, {"bearer", map[string]string{"realm": "y", "service": "z"}}, {"negotiate", map[string]string{}}},
		},
		{[]string{`Bearer realm="first",realm="second"`}, []Challenge{{"bearer", map[string]string{"realm": "first"}}}},
		{[]string{`Bearer realm="unfinished`}, []Challenge{{"bearer", map[string]string{}}}},
		{[]string{"", "=", `"x"`, strings.Repeat("a", 1<<20)}, nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, ParseChallenges(tt.in)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestParseToken(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct {
		in   string
		want Token
		ok   bool
	}{
		{`{"token":"a","expires_in":300}`, Token{Value: "a", Expires: now.Add(300 * time.Second)}, true},
		{`{"access_token":"b"}`, Token{Value: "b", Expires: now.Add(60 * time.Second)}, true},
		{`{"token":"a","access_token":"b","expires_in":-5}`, Token{Value: "a", Expires: now.Add(60 * time.Second)}, true},
		{`{"token":"a","expires_in":99999999999}`, Token{Value: "a", Expires: now.Add(24 * time.Hour)}, true},
		{`{"token":"a\nX-Evil: 1"}`, Token{}, false},
		{`{}`, Token{}, false},
		{`nonsense`, Token{}, false},
	}
	for _, tt := range tests {
		got, err := ParseToken([]byte(tt.in), now)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParseToken(%s) = %v, %v", tt.in, got, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]time.Duration{
		"": -1, "7": 7 * time.Second, "Thu, 01 Jan 2026 00:00:09 GMT": 9 * time.Second, "Wed, 31 Dec 2025 00:00:00 GMT": 0, "-3": -1, "soon": -1, "99999999999999999999": -1,
	}
	for in, want := range tests {
		got, ok := RetryAfter(http.Header{"Retry-After": {in}}, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("RetryAfter(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestContentRange(t *testing.T) {
	tests := map[string][2]int64{"bytes 5-9/10": {5, 10}, "bytes 5-9/*": {5, -1}, "bytes -5/10": {-2, -2}, "5-9/10": {-2, -2}, "bytes x-9/10": {-2, -2}, "bytes 5/10": {-2, -2}, "bytes 5-9": {-2, -2}}
	for in, want := range tests {
		start, total, ok := ContentRange(in)
		if !ok {
			start, total = -2, -2
		}
		if start != want[0] || total != want[1] {
			t.Errorf("ContentRange(%q) = %d, %d, %v", in, start, total, ok)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/b",service="c", Basic realm=x`)
	f.Add(`Bearer realm="\"`)
	f.Add(`a=b,c=d e f="g`)
	f.Fuzz(func(t *testing.T, s string) {
		all := ParseChallenges([]string{s, s})
		if len(all) > maxChallenges {
			t.Fatalf("%d challenges", len(all))
		}
		for _, c := range all {
			if c.Scheme == "" || c.Scheme != strings.ToLower(c.Scheme) {
				t.Fatalf("scheme %q", c.Scheme)
			}
		}
	})
}

func FuzzParseErrors(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`))
	f.Add([]byte(`{"token":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range ParseErrors(b) {
			if len(e.Message) > 256 || strings.ContainsAny(e.Message, "\n\x1b") {
				t.Fatalf("message %q", e.Message)
			}
		}
		_, _ = ParseToken(b, time.Time{})
	})
}
