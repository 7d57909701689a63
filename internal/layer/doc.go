// Package layer turns the tar stream of an image layer into what a root file
// system is mounted from: one read-only EROFS file, or a directory.
//
// Both forms come from the same walk over the tar. Entries build a tree in
// memory; names and symbolic links are resolved there, inside the layer, and
// nowhere else: no path from a tar ever reaches the host's file system. In
// that tree a whiteout becomes the character device 0:0, and an opaque
// directory the attribute trusted.overlay.opaque, as overlayfs wants them.
//
// The EROFS file is written in one sequential pass:
//
//	0       what the file is: see Info (1024 bytes)
//	1024    the superblock, written last
//	4096    the tar, byte for byte: its 512-byte blocks are the file system's
//	...     contents of sparse files, inodes, directories, pending work
//
// Contents of files are not copied out of the tar: inodes point into it. So a
// layer costs one write and one hash, the hash proves the stored bytes as long
// as they live, and the very same tar can be given out again.
//
// A layer is a function of its tar alone, whatever layers it is stacked on.
// Two things can be said only of a stack: which attributes a directory has
// that the tar takes for granted, and what a hard link to a lower layer's file
// is. Both are recorded as Pending; Supplement makes the tar of a further
// layer out of them.
//
// This package does not decompress, and does not know stores or names.
package layer
