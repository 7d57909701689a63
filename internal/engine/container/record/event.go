package record

import (
	"maps"

	"github.com/moby/moby/api/types/events"

	"lade/internal/metadata"
)

// Events takes what happens to containers: see package event.
type Events interface {
	// Put adds an event to the transaction that makes it true.
	Put(tx *metadata.Tx, durable bool, m events.Message) error
	// Tell passes on what was put into transactions that have succeeded.
	Tell()
	// Say passes on what comes with no change of a record.
	Say(m events.Message)
}

// Event is what happened to a container, in Docker's form: labels, image and
// name go with it, and what is said in pairs of a name and a value.
func Event(d Definition, action events.Action, pairs ...string) events.Message {
	attr := map[string]string{}
	if d.Config != nil {
		maps.Copy(attr, d.Config.Labels)
	}
	attr["image"], attr["name"] = d.Image.Asked, d.Name
	for i := 0; i+1 < len(pairs); i += 2 {
		attr[pairs[i]] = pairs[i+1]
	}
	return events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: d.ID, Attributes: attr}}
}
