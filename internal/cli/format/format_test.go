package format

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

type fruit struct{ name, colour string }

func (fruit) IsRow()           {}
func (f fruit) Name() string   { return f.name }
func (f fruit) Colour() string { return f.colour }
func (f fruit) Label(key string) string {
	return map[string]string{"org.kind": "pome"}[key]
}

func TestWrite(t *testing.T) {
	rows := []fruit{{"apple", "red"}, {"pomegranate", "crimson & <dark>"}}
	headers := map[string]string{"Name": "NAME", "Colour": "COLOUR"}
	for _, test := range []struct {
		format string
		quiet  bool
		want   string
	}{
		{"", false, "NAME          COLOUR\napple         red\npomegranate   crimson & <dark>\n"},
		{"table", false, "NAME          COLOUR\napple         red\npomegranate   crimson & <dark>\n"},
		{"table", true, "apple\npomegranate\n"},
		{"", true, "apple\npomegranate\n"},
		{`table {{.Colour}}\t{{.Label "org.kind"}}`, false, "COLOUR             KIND\nred                pome\ncrimson & <dark>   pome\n"},
		{`table {{upper .Name}}`, false, "NAME\nAPPLE\nPOMEGRANATE\n"},
		{`table {{truncate .Name 3}}\t{{json .Colour}}`, false, "NAME      COLOUR\napp       \"red\"\npom       \"crimson & <dark>\"\n"},
		{"{{.Name}}={{.Colour}}", true, "apple=red\npomegranate=crimson & <dark>\n"},
		{`{{.Name}}\n{{title .Colour}}`, false, "apple\nRed\npomegranate\nCrimson & <dark>\n"},
		{"json", false, `{"Colour":"red","Name":"apple"}` + "\n" + `{"Colour":"crimson & <dark>","Name":"pomegranate"}` + "\n"},
		{`{{join (split .Name "p") "-"}}`, false, "a--le\n-omegranate\n"},
		{`[{{pad .Name 1 2}}]`, false, "[ apple  ]\n[ pomegranate  ]\n"},
	} {
		var b bytes.Buffer
		table := Table{Format: test.format, Default: `{{.Name}}\t{{.Colour}}`, Headers: headers, Quiet: test.quiet, Key: "Name"}
		if err := Write(&b, table, rows); err != nil {
			t.Errorf("%q: %v", test.format, err)
		}
		if diff := cmp.Diff(test.want, b.String()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.format, diff)
		}
	}
	for _, bad := range []string{"{{.Nope}}", "{{", "table {{.Name", "{{.Name | nope}}"} {
		var b bytes.Buffer
		if err := Write(&b, Table{Format: bad, Headers: headers}, rows); err == nil || b.Len() > 0 {
			t.Errorf("%q: wrote %q, error %v; want an error and nothing written", bad, b.String(), err)
		}
	}
}

func TestObject(t *testing.T) {
	raw := json.RawMessage(`{"Id":"4c01","Config":{"Labels":{"a.b":"c"}},"State":{"Pid":12345678,"Running":true},"Newer":{"Field":18446744073709551615}}`)
	for format, want := range map[string]string{
		"{{.Id}}":                        "4c01",
		"{{.ID}}":                        "4c01",
		"{{.State.Pid}}":                 "12345678",
		"{{.State.Running}}":             "true",
		`{{index .Config.Labels "a.b"}}`: "c",
		"{{.Newer.Field}}":               "18446744073709551615",
		"{{json .State.Running}}":        "true",
		`{{range $k, $v := .Config.Labels}}{{$k}}{{end}}`: "a.b",
	} {
		var b bytes.Buffer
		if err := Object(&b, format, raw, &container.InspectResponse{}); err != nil || b.String() != want+"\n" {
			t.Errorf("%q: %q, %v; want %q", format, b.String(), err, want)
		}
	}
	var b bytes.Buffer
	if err := Object(&b, "{{.Nope}}", raw, &container.InspectResponse{}); err == nil {
		t.Errorf("{{.Nope}} gave %q; want an error", b.String())
	}
	if err := Array(&b, []json.RawMessage{json.RawMessage(`{"b":1,"a":[]}`)}); err != nil || b.String() != "[\n    {\n        \"b\": 1,\n        \"a\": []\n    }\n]\n" {
		t.Errorf("Array wrote %q, %v", b.String(), err)
	}
}

func TestTimestamp(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC)
	for in, want := range map[string]string{
		"":                             "",
		"42m":                          "1795259880.000000005",
		"1h30m":                        "1795257000.000000005",
		"2026-11-21T11:00:00Z":         "1795258800.000000000",
		"2026-11-21T11:00:00.25+01:00": "1795255200.250000000",
		"2026-11-21T11:00:00":          "1795258800.000000000",
		"2026-11-21T11:00":             "1795258800.000000000",
		"2026-11-21":                   "1795219200.000000000",
		"1795258800":                   "1795258800",
		"1795258800.000000001":         "1795258800.000000001",
		"0":                            "0",
	} {
		if got, err := Timestamp(in, now); got != want || err != nil {
			t.Errorf("Timestamp(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "1.", "1.0000000001", "2026-13-01", "1.x"} {
		if got, err := Timestamp(in, now); err == nil {
			t.Errorf("Timestamp(%q) = %q, want an error", in, got)
		}
	}
}

func TestHuman(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for d, want := range map[time.Duration]string{
		0: "Less than a second ago", 5 * time.Second: "5 seconds ago", 90 * time.Second: "About a minute ago",
		50 * time.Hour: "2 days ago", 24 * 400 * time.Hour: "13 months ago",
	} {
		if got := Ago(now.Add(-d), now); got != want {
			t.Errorf("Ago(%s) = %q, want %q", d, got, want)
		}
	}
	if got := Ago(time.Unix(0, 0), now); got != "N/A" {
		t.Errorf("Ago(0) = %q: an image without a date is not 50 years old", got)
	}
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1234: "1.23kB", 117_000_000: "117MB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{{"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"äöüß", 3, "äö…"}, {"abc", 1, "a"}, {"abc", 0, ""}} {
		if got := Ellipsis(test.in, test.n); got != test.want {
			t.Errorf("Ellipsis(%q, %d) = %q, want %q", test.in, test.n, got, test.want)
		}
	}
}

// FuzzTemplate: what a person writes after --format never panics.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"table {{.Name}}\\t{{.Colour}}", "json", "{{json .}}", "{{pad .Name -1 3}}", "{{pad .Name 1 9223372036854775807}}", "{{range .Name}}.{{end}}", "{{title .}}", "{{truncate .Name -4}}", `{{join .Name ","}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "range") {
			_, _ = Parse(text)
			return // {{range 1000000000}} takes as long as it says
		}
		_ = Write(&bytes.Buffer{}, Table{Format: text, Default: "{{.Name}}"}, []fruit{{"apple", "red"}})
	})
}
