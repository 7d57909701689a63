package layer

import (
	"encoding/binary"
	"hash/crc32"
)

// The EROFS on-disk format, as much of it as we write: all of it has been in
// the kernel since 5.15, blocks smaller than a page since 6.4.
const (
	blockBits = 9
	blockSize = 1 << blockBits

	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2

	compatChecksum   = 1
	compatMtime      = 2
	incompatChunked  = 4
	inodeSize        = 64 // of an extended inode: owner and time in full
	slotBits         = 5  // an inode's number counts these from the metadata's start
	slotSize         = 1 << slotBits
	firstSlot        = 2 // number 0 would be none to readdir(3)
	layoutPlain      = 0
	layoutInline     = 2
	layoutChunks     = 4
	direntSize       = 12
	noBlock          = ^uint32(0) // a chunk that is a hole
	maxBlocks        = noBlock
	maxChunkBits     = 31
	minChunkBits     = 12
	maxChunksOfAFile = 1 << 16
	chunkIndexBytes  = 4
)

// tapeStart is where the tar begins in an image.
const tapeStart = 4096

// superblock is what differs between two images.
type superblock struct {
	inodes  uint64
	blocks  uint32
	meta    uint32 // block in which metadata begin
	root    uint16
	chunked bool
}

func (s superblock) encode() []byte {
	b := make([]byte, superSize)
	le := binary.LittleEndian
	le.PutUint32(b, superMagic)
	le.PutUint32(b[8:], compatChecksum|compatMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], s.root)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint32(b[36:], s.blocks)
	le.PutUint32(b[40:], s.meta)
	if s.chunked {
		le.PutUint32(b[80:], incompatChunked)
	}
	// The checksum is over the block with the superblock, without the last
	// inversion of the usual CRC-32C. Nothing else is in that block.
	block := append(b[:superSize:superSize], make([]byte, blockSize-superSize)...)
	le.PutUint32(b[4:], ^crc32.Checksum(block, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// diskInode is an inode as it is written.
type diskInode struct {
	*inode
	layout int
	u      uint32 // block address, device number or chunk format
	serial uint32
	links  uint32
	size   uint64
	xattrs int
}

func (d diskInode) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b, uint16(1|d.layout<<1))
	if d.xattrs > 0 {
		le.PutUint16(b[2:], uint16((d.xattrs-xattrHeader)/4+1))
	}
	le.PutUint16(b[4:], d.mode)
	le.PutUint64(b[8:], d.size)
	le.PutUint32(b[16:], d.u)
	le.PutUint32(b[20:], d.serial)
	le.PutUint32(b[24:], d.uid)
	le.PutUint32(b[28:], d.gid)
	le.PutUint64(b[32:], uint64(d.mtime))
	le.PutUint32(b[40:], d.nsec)
	le.PutUint32(b[44:], d.links)
}

// fileType is the type of a file in a directory entry.
func fileType(mode uint16) byte {
	switch mode & typeMask {
	case typeRegular:
		return 1
	case typeDir:
		return 2
	case typeChar:
		return 3
	case typeBlock:
		return 4
	case typeFIFO:
		return 5
	case typeSymlink:
		return 7
	}
	return 0
}

// packed returns how many entries fit one block of a directory, and the bytes
// they take. Each has a record of fixed size; the names follow the records.
func packed(list []dirent) (count, size int) {
	for _, e := range list {
		if size+direntSize+len(e.name) > blockSize {
			break
		}
		size += direntSize + len(e.name)
		count++
	}
	return count, size
}

// dirSize returns the length of a directory with that listing.
func dirSize(list []dirent) uint64 {
	blocks, last := 0, 0
	for len(list) > 0 {
		var n int
		n, last = packed(list)
		list = list[n:]
		blocks++
	}
	return uint64(blocks-1)<<blockBits + uint64(last)
}

// putDirents writes one block of a directory.
func putDirents(b []byte, list []dirent, number, mode func(inode uint32) uint64) {
	clear(b)
	at := len(list) * direntSize
	for i, e := range list {
		r := b[i*direntSize:]
		binary.LittleEndian.PutUint64(r, number(e.inode))
		binary.LittleEndian.PutUint16(r[8:], uint16(at))
		r[10] = fileType(uint16(mode(e.inode)))
		at += copy(b[at:], e.name)
	}
}

// alignUp rounds n up to a multiple of the power of two to.
func alignUp[T int64 | uint64 | int](n, to T) T { return (n + to - 1) &^ (to - 1) }
