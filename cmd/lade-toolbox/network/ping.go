package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"lade/cmd/lade-toolbox/cmdline"
)

// Ping sends ICMP echo requests: over a ping socket if the kernel lets this
// group have one, else over a raw socket.
func Ping(args []string) error {
	o, rest, err := cmdline.Getopt(args, "c:i:w:W:q46", nil)
	if err != nil || len(rest) != 1 {
		return errors.Join(err, cmdline.Need(rest, 1))
	}
	count, err := strconv.Atoi(o.Last('c', "0"))
	if err != nil {
		return cmdline.Usage("-c wants a number")
	}
	wait, err1 := cmdline.Duration(o.Last('W', "2"))
	pause, err2 := cmdline.Duration(o.Last('i', "1"))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip4", rest[0])
	if err != nil {
		return err
	}
	to := syscall.SockaddrInet4{Addr: addrs[0].Unmap().As4()}
	fd, raw, err := icmpSocket(wait)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	fmt.Printf("PING %s (%s)\n", rest[0], addrs[0])
	got, sent := 0, 0
	for ; count == 0 || sent < count; sent++ {
		if sent > 0 {
			<-time.After(pause)
		}
		rtt, err := echo(fd, raw, &to, uint16(sent+1))
		switch {
		case err == nil:
			got++
			fmt.Printf("reply from %s: seq=%d time=%.3f ms\n", addrs[0], sent+1, float64(rtt.Microseconds())/1000)
		case errors.Is(err, syscall.EAGAIN):
			fmt.Printf("no reply: seq=%d\n", sent+1)
		default:
			return err
		}
	}
	fmt.Printf("%d sent, %d received\n", sent, got)
	if got == 0 {
		return cmdline.StatusError(1)
	}
	return nil
}

func icmpSocket(wait time.Duration) (fd int, raw bool, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, syscall.IPPROTO_ICMP)
	if err != nil {
		raw = true
		if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_ICMP); err != nil {
			return -1, false, fmt.Errorf("open an ICMP socket: %w", err)
		}
	}
	tv := syscall.NsecToTimeval(wait.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv); err != nil {
		return -1, false, errors.Join(err, syscall.Close(fd))
	}
	return fd, raw, nil
}

// echo sends one request and waits for its answer.
func echo(fd int, raw bool, to *syscall.SockaddrInet4, seq uint16) (time.Duration, error) {
	m := make([]byte, 64)
	m[0] = 8 // echo request
	binary.BigEndian.PutUint16(m[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(m[6:], seq)
	var sum uint32
	for i := 0; i < len(m); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(m[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	start := time.Now()
	if err := syscall.Sendto(fd, m, 0, to); err != nil {
		return 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		p := buf[:n]
		if raw && n > 20 {
			p = p[int(p[0]&15)*4:] // a raw socket gives the IP header too
		}
		if len(p) >= 8 && p[0] == 0 && binary.BigEndian.Uint16(p[6:]) == seq {
			return time.Since(start), nil
		}
		if time.Since(start) > 10*time.Second {
			return 0, syscall.EAGAIN
		}
	}
}
