package daemon

import (
	"net"
	"os"
	"strconv"
	"strings"

	"lade/api"
	"lade/internal/errdefs"
)

// Notifier tells whoever started the engine how far it is: `lade` by a pipe,
// systemd by its socket (sd_notify(3)).
type Notifier struct {
	pipe   *os.File
	socket string
}

// NewNotifier reads from the environment who wants to know, and takes that out
// of the environment: it is not meant for children.
func NewNotifier() *Notifier {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	if fd, err := strconv.Atoi(os.Getenv(api.EnvReadyFD)); err == nil && fd > 2 {
		n.pipe = os.NewFile(uintptr(fd), "ready pipe")
	}
	_ = os.Unsetenv("NOTIFY_SOCKET")
	_ = os.Unsetenv(api.EnvReadyFD)
	return n
}

// Ready says that the engine answers.
func (n *Notifier) Ready() { n.tell(api.ReadyOK, "READY=1") }

// Failed says why it never will.
func (n *Notifier) Failed(err error) {
	text := strings.ReplaceAll(errdefs.Message(err), "\n", "; ")
	n.tell(text+"\n", "STATUS="+text)
}

// Stopping says that it leaves.
func (n *Notifier) Stopping() { n.tell("", "STOPPING=1") }

// tell writes to both. That nobody listens any more is their matter.
func (n *Notifier) tell(line, state string) {
	if n.pipe != nil && line != "" {
		_, _ = n.pipe.WriteString(line)
		_ = n.pipe.Close()
		n.pipe = nil
	}
	if n.socket == "" {
		return
	}
	name := n.socket
	if name[0] == '@' { // an abstract socket
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
