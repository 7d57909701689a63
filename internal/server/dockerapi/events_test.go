package dockerapi

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/event"
	"lade/internal/journal"
	"lade/internal/metadata"
)

// newEvents returns an empty journal of events.
func newEvents(t *testing.T) *event.Service {
	t.Helper()
	dir := t.TempDir()
	j, err := journal.Open(filepath.Join(dir, "events"), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	durable, err := metadata.Open(filepath.Join(dir, "durable"), metadata.Options{})
	if err != nil {
		t.Fatal(err)
	}
	boot, err := metadata.Open(filepath.Join(dir, "boot"), metadata.Options{Boot: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := event.New(event.Config{Journal: j, Durable: durable, Boot: boot, BootID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_ = durable.Close()
		_ = boot.Close()
	})
	return s
}

func TestEvents(t *testing.T) {
	f := &fake{events: newEvents(t)}
	for _, name := range []string{"one", "two"} {
		f.events.Say(events.Message{
			Type: events.ContainerEventType, Action: events.ActionStart, TimeNano: 1_500_000_000,
			Actor: events.Actor{ID: name, Attributes: map[string]string{"image": "app"}},
		})
	}
	const one = `"Type":"container","Action":"start","Actor":{"ID":"one","Attributes":{"image":"app"}},"scope":"local","time":1,"timeNano":1500000000,"number":1}` + "\n"
	two := strings.NewReplacer("one", "two", `"number":1`, `"number":2`).Replace(one)
	for _, tt := range []struct {
		target string
		status int
		want   string
	}{
		{"/events?since=1&until=2", 200, "{" + one + "{" + two},
		{"/events?since=1.6&until=2", 200, ""},
		{"/events?since=1&until=1.2", 200, ""},
		{"/events?since=%231&until=2", 200, "{" + two},
		{"/events?since=%232&until=2", 200, ""},
		{"/v1.51/events?since=%231&until=2", 200, `{"status":"start","id":"two","from":"app",` + two},
		{"/events?since=1&until=2&filters=%7B%22container%22:%5B%22tw%22%5D%7D", 200, "{" + two},
		{"/events?since=1&until=2&filters=%7B%22event%22:%7B%22die%22:true%7D%7D", 200, ""},
		{"/events?filters=%7B%22shape%22:%5B%22round%22%5D%7D", 400, `{"message":"invalid filter 'shape'"}` + "\n"},
		{"/events?since=%239&until=2", 400, `{"message":"there is no event with number 9: the last one has 2; give the number of an event that you have seen"}` + "\n"},
		{"/events?since=%23x", 400, `{"message":"invalid value for \"since\": \"x\" is no number of an event"}` + "\n"},
		{"/events?since=3&until=2", 400, "{\"message\":\"`since` time (3) cannot be after `until` time (2)\"}\n"},
	} {
		w := do(t, f, "GET", tt.target, "")
		if w.Code != tt.status || !strings.HasPrefix(w.Body.String(), strings.TrimSuffix(tt.want, "\n")) || tt.want == "" && w.Body.Len() > 0 {
			t.Errorf("GET %s: %d %s, want %d %s", tt.target, w.Code, w.Body, tt.status, tt.want)
		}
	}
}
