// Package journal keeps numbered records in files that only grow.
//
// Append writes records and gives each the next number; Sync waits until they
// are on disk. A Reader goes through them in order, and at the end can be asked
// again: a number is never given twice and none is left out, whenever the
// writer dies. Only what was synced is shown to readers, so that a number that
// was seen keeps its record after a power cut.
//
// A journal is a directory of segments, each named by the number of its first
// record. When a segment is full the next is begun; the oldest go when there
// are too many. A record in a segment is
//
//	4 bytes  length of the data
//	4 bytes  checksum (CRC-32C) of the number and the data
//	8 bytes  number
//	data
//
// all little-endian. Open cuts off what a writer that was killed left of a
// record at the very end. Damage elsewhere is stepped over and reported.
//
// The package does not know what the records say, and has one writer; who
// opens a journal makes sure of that.
package journal
