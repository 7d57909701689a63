package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func configs(tb testing.TB) [][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no configurations: %v", err)
	}
	var out [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// TestDecodeFast verifies that usual configurations need no encoding/json.
func TestDecodeFast(t *testing.T) {
	for i, data := range configs(t) {
		s := &scanner{b: data}
		var c specs.Spec
		if s.spec(&c); s.err != nil {
			t.Errorf("configuration %d: stopped before %.60q", i, s.b[s.i:])
		}
	}
}

// FuzzDecode compares with encoding/json, whatever is thrown at it.
func FuzzDecode(f *testing.F) {
	for _, b := range configs(f) {
		f.Add(b)
	}
	for _, s := range []string{
		"", "null", "{}", "[]", `{"root":null}`, `{"mounts":null,"mounts":[]}`, `{"process":{"args":["a\u0041","ü","\xff"]}}`, `{"Root":{"path":"x"}}`,
		`{"process":{"user":{"uid":-1}}}`, `{"process":{"user":{"uid":4294967296}}}`, `{"process":{"user":{"uid":1e3}}}`, `{"process":{"user":{"uid":01}}}`,
		`{"hostname":"a" "b"}`, `{"hostname":"a",}`, `{"hostname":"a"} x`, `{"hostname":tru}`, `{"linux":{"devices":[{"major":-9223372036854775808}]}}`,
		`{"process":{"oomScoreAdj":null,"terminal":null}}`, `{"annotations":{"a":"b","a":"c"}}`, `{"linux":{"resources":{"memory":{"limit":1}}}}`,
		`{"process":{"user":{"uid":-0}}}`, `{"root":{"path":"a"},"root":{"readonly":true}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want, got specs.Spec
		wantErr, gotErr := json.Unmarshal(data, &want), decode(data, &got)
		if (wantErr == nil) != (gotErr == nil) {
			t.Fatalf("encoding/json: %v; decode: %v", wantErr, gotErr)
		}
		if wantErr == nil && repeated(data) {
			return // which of two wins, nobody promises
		}
		if d := cmp.Diff(want, got); wantErr == nil && d != "" {
			t.Errorf("-encoding/json +decode:\n%s", d)
		}
	})
}

// repeated reports whether an object may name a key twice.
func repeated(data []byte) bool {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	var keys []map[string]bool
	var inObject, isKey []bool
	for {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		n := len(inObject) - 1
		switch d, _ := tok.(json.Delim); d {
		case '{', '[':
			if n >= 0 {
				isKey[n] = true
			}
			inObject, isKey, keys = append(inObject, d == '{'), append(isKey, true), append(keys, map[string]bool{})
			continue
		case '}', ']':
			inObject, isKey, keys = inObject[:n], isKey[:n], keys[:n]
			continue
		}
		if n < 0 || !inObject[n] {
			continue
		}
		if !isKey[n] {
			isKey[n] = true
			continue
		}
		key := strings.ToLower(tok.(string))
		if keys[n][key] {
			return true
		}
		keys[n][key], isKey[n] = true, false
	}
}

func BenchmarkDecode(b *testing.B) {
	data := configs(b)[0]
	for b.Loop() {
		var c specs.Spec
		if err := decode(data, &c); err != nil {
			b.Fatal(err)
		}
	}
}
