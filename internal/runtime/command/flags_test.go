package command

import (
	"slices"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args  string
		mixed bool
		want  string // flags, then the rest
		err   string
	}{
		{"--bundle x id", false, "x false 0 [] [id]", ""},
		{"-b x id", false, "x false 0 [] [id]", ""},
		{"-bundle=x -d id", false, "x true 0 [] [id]", ""},
		{"--detach=false id", false, " false 0 [] [id]", ""},
		{"id --detach", false, " false 0 [] [id --detach]", ""},
		{"id --detach", true, " true 0 [] [id]", ""},
		{"id -- --detach", true, " false 0 [] [id --detach]", ""},
		{"-e a=b --env c=d --preserve-fds 3 id - x", false, " false 3 [a=b c=d] [id - x]", ""},
		{"--bundle", false, "", "flag needs an argument: -bundle"},
		{"--nope", false, "", "flag provided but not defined: -nope"},
		{"--detach=maybe", false, "", `invalid value "maybe" for flag -detach`},
		{"--preserve-fds -1", false, "", `invalid value "-1" for flag -preserve-fds`},
	} {
		var bundle string
		var detach bool
		var n int
		var env []string
		flags := flagSet{text("bundle b", &bundle), boolean("detach d", &detach), number("preserve-fds", &n), list("env e", &env)}
		rest, err := flags.parse(strings.Fields(tt.args), tt.mixed)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", tt.args, err, tt.err)
			}
			continue
		}
		got := strings.Join([]string{bundle, map[bool]string{true: "true", false: "false"}[detach], string(rune('0' + n)), "[" + strings.Join(env, " ") + "]", "[" + strings.Join(rest, " ") + "]"}, " ")
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v; want %q", tt.args, got, err, tt.want)
		}
	}
}

func TestSignals(t *testing.T) {
	for s, want := range map[string]int{"9": 9, "KILL": 9, "SIGKILL": 9, "sigterm": 15, "0": 0, "RTMIN+3": 37, "SIGRTMIN+3": 37, "64": 64} {
		if got, err := parseSignal(s); err != nil || int(got) != want {
			t.Errorf("%s: got %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "65", "-1", "KILLER", "SIG", "SIGSIGKILL"} {
		if got, err := parseSignal(s); err == nil {
			t.Errorf("%q: got %d", s, got)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"0", "1000", "4294967295", "-1", "+1", "0x1", " 1", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseID(s)
		digits := []byte(s)
		if err == nil && (n == 1<<32-1 || len(s) == 0 || slices.ContainsFunc(digits, func(c byte) bool { return c < '0' || c > '9' })) {
			t.Errorf("%q is taken for %d", s, n)
		}
	})
}
