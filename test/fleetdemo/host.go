package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// runHost is one host: it is in namespaces of its own already. It answers questions for names, brings connections for the
// server out by a socket, and runs culprit.
func runHost(dir, server string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for _, name := range []string{"resolv.conf", "nsswitch.conf"} {
		if err := unix.Mount(filepath.Join(dir, name), "/etc/"+name, "", unix.MS_BIND, ""); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("use our own /etc/%s: %w", name, err)
		}
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("set the interface lo up: %w", err)
	}
	names, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	go answer(names)
	l, err := net.Listen("tcp", "127.0.0.1:4222")
	if err != nil {
		return err
	}
	go pass(ctx, l, "unix", server)

	cmd := exec.Command(os.Getenv("CULPRIT_BIN"), "run", "-c", filepath.Join(dir, "culprit.yaml"))
	cmd.Stdout = os.Stderr
	cmd.Stderr = &readiness{to: os.Stderr, ready: func() { fmt.Println("ready") }}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })()
	return cmd.Wait()
}

// readiness passes on a log, and notices when culprit is ready.
type readiness struct {
	to    io.Writer
	ready func()
	once  sync.Once
}

func (r *readiness) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`"message":"ready"`)) {
		r.once.Do(r.ready)
	}
	return r.to.Write(p)
}

// loopback sets the interface lo up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// answer says of every name that it is 192.0.2.1.
func answer(names net.PacketConn) {
	var buffer [512]byte
	for {
		n, from, err := names.ReadFrom(buffer[:])
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
			}}
		}
		if b, err := m.Pack(); err == nil {
			names.WriteTo(b, from)
		}
	}
}
