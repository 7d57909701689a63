// Package network has the commands that speak to other machines, or show how
// they are reached.
package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"lade/cmd/lade-toolbox/cmdline"
)

// Wget fetches one file by plain HTTP: the image has no certificates.
func Wget(args []string) error {
	o, rest, err := cmdline.Getopt(args, "qO:T:S", map[string]byte{"quiet": 'q', "output-document": 'O', "timeout": 'T'})
	if err != nil || len(rest) == 0 {
		return errors.Join(err, cmdline.Need(rest, 1))
	}
	wait, err := cmdline.Duration(o.Last('T', "30"))
	if err != nil {
		return err
	}
	address := rest[0]
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	for range 10 {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		if u.Scheme != "http" {
			return fmt.Errorf("%s: only http is spoken here", address)
		}
		next, err := fetch(u, o, wait)
		if err != nil || next == "" {
			return err
		}
		to, err := u.Parse(next)
		if err != nil {
			return err
		}
		address = to.String()
	}
	return errors.New("too many redirects")
}

// fetch asks for u once. It returns where a redirect leads.
func fetch(u *url.URL, o cmdline.Options, wait time.Duration) (redirect string, err error) {
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	d := net.Dialer{Timeout: wait}
	c, err := d.DialContext(context.Background(), "tcp", host)
	if err != nil {
		return "", err
	}
	defer c.Close()
	// HTTP/1.0: the body ends with the connection, and comes in one piece.
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: lade-toolbox\r\nConnection: close\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		return "", err
	}
	b := bufio.NewReader(c)
	first, err := b.ReadString('\n')
	f := strings.SplitN(strings.TrimSpace(first), " ", 3)
	if err != nil || len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/") {
		return "", fmt.Errorf("%s: no HTTP answer", u.Host)
	}
	h := map[string]string{}
	for {
		line, err := b.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		k, v, _ := strings.Cut(line, ":")
		h[strings.ToLower(k)] = strings.TrimSpace(v)
	}
	switch {
	case strings.HasPrefix(f[1], "3") && h["location"] != "":
		return h["location"], nil
	case f[1] != "200":
		return "", fmt.Errorf("%s: server returned %s", u, strings.Join(f[1:], " "))
	}
	return "", save(b, u, o, h["content-length"])
}

func save(r io.Reader, u *url.URL, o cmdline.Options, length string) error {
	name := o.Last('O', "")
	if name == "" {
		if name = path.Base(u.Path); name == "/" || name == "." {
			name = "index.html"
		}
	}
	out := os.Stdout
	if name != "-" {
		var err error
		if out, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666); err != nil {
			return err
		}
		defer out.Close()
	}
	n, err := io.Copy(out, r)
	if want, bad := strconv.ParseInt(length, 10, 64); err == nil && bad == nil && n != want {
		return fmt.Errorf("%s: the connection ended after %d of %d bytes", u, n, want)
	}
	if err == nil && !o.Has('q') && name != "-" {
		fmt.Fprintf(os.Stderr, "%s: %d bytes\n", name, n)
	}
	return err
}

// NC connects, or with -l waits for one connection, and joins it with stdin
// and stdout.
func NC(args []string) error {
	o, rest, err := cmdline.Getopt(args, "lp:w:uzvUN", nil)
	if err != nil {
		return err
	}
	network := "tcp"
	if o.Has('u') {
		network = "udp"
	}
	wait, err := cmdline.Duration(o.Last('w', "0"))
	if err != nil {
		return err
	}
	var c net.Conn
	switch {
	case o.Has('l'):
		port := o.Last('p', "")
		if port == "" && len(rest) > 0 {
			port = rest[len(rest)-1]
		}
		var lc net.ListenConfig
		l, err := lc.Listen(context.Background(), "tcp", ":"+port)
		if err != nil {
			return err
		}
		c, err = l.Accept()
		_ = l.Close()
		if err != nil {
			return err
		}
	case o.Has('U') && len(rest) == 1:
		c, err = (&net.Dialer{Timeout: wait}).DialContext(context.Background(), "unix", rest[0])
	case len(rest) == 2:
		c, err = (&net.Dialer{Timeout: wait}).DialContext(context.Background(), network, net.JoinHostPort(rest[0], rest[1]))
	default:
		return cmdline.Usage("usage: nc HOST PORT, or nc -l -p PORT")
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if o.Has('z') {
		return nil
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(os.Stdout, c)
	return err
}

// Nslookup prints the addresses of names.
func Nslookup(args []string) error {
	return cmdline.Each(args, func(name string) error {
		addrs, err := net.DefaultResolver.LookupHost(context.Background(), name)
		for _, a := range addrs {
			fmt.Printf("Name:\t%s\nAddress: %s\n", name, a)
		}
		return err
	})
}

// IP shows what interfaces, addresses and routes there are; it changes none.
func IP(args []string) error {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	what := "addr"
	if len(args) > 0 {
		what = args[0]
	}
	switch {
	case strings.HasPrefix("address", what):
		return links(true)
	case strings.HasPrefix("link", what):
		return links(false)
	case strings.HasPrefix("route", what):
		return routes()
	}
	return cmdline.Usage("ip knows addr, link and route, and shows only")
}

func links(addresses bool) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		fmt.Printf("%d: %s: <%s> mtu %d\n", i.Index, i.Name, strings.ToUpper(strings.ReplaceAll(i.Flags.String(), "|", ",")), i.MTU)
		if len(i.HardwareAddr) > 0 {
			fmt.Printf("    link/ether %s\n", i.HardwareAddr)
		}
		if !addresses {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			return err
		}
		for _, a := range list {
			kind := "inet"
			if strings.Contains(a.String(), ":") {
				kind = "inet6"
			}
			fmt.Printf("    %s %s\n", kind, a)
		}
	}
	return nil
}

// routes reads /proc/net/route: addresses are hexadecimal, in the order of the
// machine's bytes.
func routes() error {
	raw, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return err
	}
	address := func(s string) net.IP {
		n, _ := strconv.ParseUint(s, 16, 32)
		return net.IPv4(byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		f := strings.Fields(line)
		if i == 0 || len(f) < 8 {
			continue
		}
		dest, via, mask := address(f[1]), address(f[2]), address(f[7])
		ones, _ := net.IPMask(mask.To4()).Size()
		to := fmt.Sprintf("%s/%d", dest, ones)
		if ones == 0 {
			to = "default"
		}
		if !via.IsUnspecified() {
			to += " via " + via.String()
		}
		fmt.Println(to, "dev", f[0])
	}
	return nil
}
