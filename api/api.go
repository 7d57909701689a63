// Package api holds what Lade's programs agree on beyond Docker's API: the
// endpoints below /lade/, and the environment that lade hands to laded.
//
// Docker's own wire types come from github.com/moby/moby/api; nothing here
// repeats them. Fields are added, never changed or taken away.
package api

// The endpoints that are Lade's own, as patterns of net/http's ServeMux. They
// carry no version: what they answer only grows.
const (
	// ExplainPattern answers how a container is started and torn down: every
	// step that the kernel is asked to take, with its reason. The query
	// parameter "format" is ExplainText (also when absent) or ExplainJSON. The
	// body is the runtime's own words, passed on as they are.
	ExplainPattern = "GET /lade/containers/{id}/explain"
	// LedgerPath answers, to a GET, whose every byte below the data root is: a
	// Ledger.
	LedgerPath = "/lade/ledger"
	// ImageTreePath answers, to a GET, which layers the images share: an
	// ImageTree.
	ImageTreePath = "/lade/images/tree"
	// ImageFilesPattern lists the files of an image, or of the one of its layers
	// that the query parameter layer names by number, from 1, or DiffID: a list
	// of ImageFile.
	ImageFilesPattern = "/lade/images/{name}/files"
	// ImageDiffPattern tells how the image that the query parameter to names
	// differs from this one: a list of ImageChange.
	ImageDiffPattern = "/lade/images/{name}/diff"
	// CheckPath reads, on a POST, all that is on disk and compares it with its
	// digests: the answer is a CheckReport. With the query parameter repair it
	// mends what it can.
	CheckPath = "/lade/check"
	// NetworkVerifyPath answers, to a GET, how the packet filter's rules differ
	// from what they should be: a NetworkVerify.
	NetworkVerifyPath = "/lade/networks/verify"
	// NetworkExplainPath answers, to a GET, who reaches the port of the host that
	// the query parameter port names, of the protocol that protocol names, if it
	// does: a list of PortReach.
	NetworkExplainPath = "/lade/networks/explain"
)

// NetworkVerify compares the rules that should be in the packet filter with those
// that are.
type NetworkVerify struct {
	Differences []string `json:"differences"`
	// Owned says that nobody else can change the rules while the engine runs.
	Owned bool `json:"owned"`
	// Wanted are the tables as they should be, as nft prints them; empty while no
	// container needs them.
	Wanted string `json:"wanted"`
}

// PortReach says who reaches a published port.
type PortReach struct {
	Protocol  string     `json:"protocol"`
	Host      string     `json:"host"` // address and port
	Container string     `json:"container"`
	Network   string     `json:"network"`
	To        string     `json:"to"` // address and port
	From      []PortFrom `json:"from"`
	// Barriers are other tables' chains that drop what they do not accept.
	Barriers []PortBarrier `json:"barriers"`
}

// PortFrom says whether some reach a port, and by which rule, or why not.
type PortFrom struct {
	From    string `json:"from"`
	Reached bool   `json:"reached"`
	By      string `json:"by"`
}

// PortBarrier is a chain of somebody else's.
type PortBarrier struct {
	Table string `json:"table"`
	Chain string `json:"chain"`
	Why   string `json:"why"`
}

// What is done with registries without the store.
const (
	// CopyPath takes a POST that copies an image, from a place to a place: the
	// queries "from", "to" and "platform"; HeaderAuths holds credentials. It
	// answers with Docker's progress messages.
	CopyPath = "/lade/images/copy"
	// TagsPath answers, to a GET, the Tags of the repository "name" in its
	// registry, and ManifestPath the manifest or index "name" as it is there. A PUT
	// there stores an index and answers Put; a DELETE removes a tag or, by digest, a
	// manifest.
	TagsPath     = "/lade/registry/tags"
	ManifestPath = "/lade/registry/manifest"
	// HeaderAuths is base64url of a JSON object: Docker's AuthConfig by
	// registry.
	HeaderAuths = "X-Registry-Config"
)

// Tags are the tags of a repository.
type Tags struct {
	Repository string
	Tags       []string
}

// Put is what was stored in a registry.
type Put struct{ Digest string }

// Ledger is what lies below the data root, and whose it is.
type Ledger struct {
	Root string
	// Lines are what one owner has of one kind; they add up to Files and Bytes.
	Lines []LedgerLine
	Files int64
	Bytes int64 // of allocated blocks
}

// CheckReport is what a check has found.
type CheckReport struct {
	Blobs, Layers int
	Bytes         int64 // that were read
	Problems      []Problem
}

// Problem is one thing that is wrong.
type Problem struct {
	Kind     string   // such as damaged blob, missing layer, unowned
	Object   string   // a digest or a path
	Detail   string   // what is wrong with it
	Users    []string `json:",omitempty"` // images and containers that need it
	Repaired bool
	Repair   string `json:",omitempty"` // what was done, or why nothing could be
}

// ImageTree is which layers the images have, and share.
type ImageTree struct {
	// Roots are the lowest layers; images stand where their highest layer is.
	Roots []TreeLayer
	// Empty are the images without layers.
	Empty []string `json:",omitempty"`
}

// TreeLayer is a layer on top of another, and what stands on it.
type TreeLayer struct {
	DiffID string
	Size   int64    // of its tar
	Users  int      // images that have it
	Images []string `json:",omitempty"` // by name or id, of which it is the highest
	Above  []TreeLayer
}

// ImageFile is a file of a layer, or of an image as containers see it.
type ImageFile struct {
	Path   string
	Type   string // file, dir, link, hardlink, char, block, fifo, removed, opaque
	Mode   uint32 // the low twelve bits
	UID    int
	GID    int
	Size   int64
	Target string `json:",omitempty"` // of a link
}

// ImageChange is how a file of one image differs from another's.
type ImageChange struct {
	Kind string // A, C or D: added, changed, deleted
	Path string
	Size int64 // how much bigger it is
}

// LedgerLine is what one owner has of one kind.
type LedgerLine struct {
	Kind  string // such as blob, layer, log; empty: nobody knows it
	Owner string `json:",omitempty"` // a digest, a container's id, a volume's name
	Path  string `json:",omitempty"` // of what nobody knows, below the root
	Files int64
	Bytes int64
}

// The formats of an explanation.
const (
	ExplainText = "text" // text/plain: one step a line, for people
	ExplainJSON = "json" // application/json: the runtime's start program
)

// ImageFilesPath returns the path of ImageFilesPattern for one image.
func ImageFilesPath(name string) string { return "/lade/images/" + name + "/files" }

// ImageDiffPath returns the path of ImageDiffPattern for one image.
func ImageDiffPath(name string) string { return "/lade/images/" + name + "/diff" }

// ExplainPath returns the path of ExplainPattern for one container.
func ExplainPath(id string) string { return "/lade/containers/" + id + "/explain" }

// ContainerEnd is what is known of how a container ended the last time, beyond
// what Docker's State has room for. It stands in a container's description as
// "Lade", which Docker's clients pass over.
type ContainerEnd struct {
	Signal      int    `json:",omitempty"` // that ended it; 0: none did
	KilledBy    string `json:",omitempty"` // who asked for that signal: client, stop, engine
	PeakMemory  int64  `json:",omitempty"` // the most memory it had, in bytes; 0: not known
	MemoryLimit int64  `json:",omitempty"` // what it may have, in bytes; 0: no limit
	Unknown     bool   `json:",omitempty"` // nobody saw the end
}

// The environment of Lade's programs.
const (
	// EnvHost is where the engine listens, such as unix:///run/lade/lade.sock.
	EnvHost = "LADE_HOST"
	// EnvContext is the name of the context that lade works with, where EnvHost
	// does not say.
	EnvContext = "LADE_CONTEXT"
	// EnvDataRoot is the directory of what must survive a reboot.
	EnvDataRoot = "LADE_DATA_ROOT"
	// EnvStateDir is the directory of what must not.
	EnvStateDir = "LADE_STATE_DIR"
	// EnvMaxDisk is what images may take on disk.
	EnvMaxDisk = "LADE_MAX_DISK"
	// EnvConfigDir is the directory of what an administrator wrote about
	// registries: registries.conf and certs.d.
	EnvConfigDir = "LADE_CONFIG_DIR"
	// EnvReadyFD is the number of a descriptor on which laded says that it
	// serves: it writes ReadyOK and closes it. When it cannot serve, it writes
	// the reason, in one line, instead. A descriptor that is closed without a
	// word means that laded died.
	EnvReadyFD = "LADE_READY_FD"
)

// ReadyOK is what a laded that serves writes to its EnvReadyFD.
const ReadyOK = "ok\n"
