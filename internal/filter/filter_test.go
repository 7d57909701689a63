package filter

import (
	"testing"
	"time"

	"lade/internal/errdefs"
)

func TestPrunes(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	labels := map[string]string{"a": "1", "b": ""}
	hourAgo := now.Add(-time.Hour)
	for _, tt := range []struct {
		name    string
		filters map[string][]string
		want    bool
	}{
		{"none", nil, true},
		{"older than a duration", map[string][]string{"until": {"30m"}}, true},
		{"younger than a duration", map[string][]string{"until": {"2h"}}, false},
		{"older than a moment", map[string][]string{"until": {"2026-03-01T11:30:00Z"}}, true},
		{"at the moment", map[string][]string{"until": {"2026-03-01T11:00:00Z"}}, false},
		{"a day", map[string][]string{"until": {"2026-03-01"}}, false},
		{"seconds", map[string][]string{"until": {"1772362800.5"}}, true},
		{"label", map[string][]string{"label": {"a"}}, true},
		{"label with value", map[string][]string{"label": {"a=1", "b="}}, true},
		{"label with another value", map[string][]string{"label": {"a=1", "b=2"}}, false},
		{"not that label", map[string][]string{"label!": {"c"}}, true},
		{"not this label", map[string][]string{"label!": {"c", "a=1"}}, false},
		{"somebody else's", map[string][]string{"dangling": {"x"}}, true},
	} {
		p, err := Prunes(tt.filters, now, "dangling")
		if err != nil || p.Match(hourAgo, labels) != tt.want {
			t.Errorf("%s: %v; want %v (%v)", tt.name, !tt.want, tt.want, err)
		}
	}
	for _, bad := range []map[string][]string{
		{"until": {"yesterday"}}, {"until": {"1h", "2h"}}, {"until": {}}, {"until": {"1.x"}}, {"until": {""}}, {"until": {"9999999999999999"}}, {"x": {"y"}},
	} {
		if _, err := Prunes(bad, now); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
