package feature

import "encoding/binary"

// emptyImage returns an EROFS image of blocks of 512 bytes, as layers have
// them, with nothing but a root directory.
func emptyImage() []byte {
	const (
		super  = 1024
		meta   = 2048 // where inodes begin
		inode  = 2    // in units of 32 bytes
		listed = 12*2 + len("."+"..")
	)
	b := make([]byte, 4096)
	le := binary.LittleEndian

	s := b[super:]
	le.PutUint32(s, 0xE0F5E1E2)
	s[12] = 9 // log2 of the block size
	le.PutUint16(s[14:], inode)
	le.PutUint64(s[16:], 1)
	le.PutUint32(s[36:], uint32(len(b)/512))
	le.PutUint32(s[40:], meta/512)

	n := b[meta+inode*32:]
	le.PutUint16(n, 1|2<<1) // extended, data after the inode
	le.PutUint16(n[4:], 0o040755)
	le.PutUint64(n[8:], uint64(listed))
	le.PutUint32(n[44:], 2)

	for i, name := range []string{".", ".."} {
		e := n[64+12*i:]
		le.PutUint64(e, inode)
		le.PutUint16(e[8:], uint16(24+i))
		e[10] = 2 // a directory
		copy(n[64+24+i:], name)
	}
	return b
}
