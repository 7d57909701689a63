// Package event is the engine's noun "event": what happened, in the order in
// which it happened, numbered without gaps.
//
// An event comes to be in one of two ways. Who changes a record puts the event
// into the same transaction (Put), and calls Tell when that has succeeded: the
// record and its event are there both or not at all. From this outbox it goes
// into the journal, which remembers how far it got: the next engine carries on
// where a killed one stopped, and neither loses an event nor doubles it. What
// changes no record is said directly (Say), and may be lost with the engine.
//
// Who listens is shown only what is on disk, so a number that was seen means
// the same event for ever. The wait for the disk is theirs, never that of who
// says something.
package event
