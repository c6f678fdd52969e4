// Package natsserver runs real servers of NATS for tests, as processes of their own. make builds the program; if it has not
// (CULPRIT_NATS_SERVER is not set), go does.
package natsserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A Server is one nats-server with JetStream on 127.0.0.1. It ends with the test.
type Server struct {
	URL  string // nats://127.0.0.1:PORT
	Name string
	Dir  string // its configuration, its log and what it stores

	t     testing.TB
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has
}

// Program finds or builds nats-server.
func Program() (string, error) { return program() }

var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("CULPRIT_NATS_SERVER"); path != "" {
		return path, nil
	}
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		module := filepath.Join(dir, "test", "natsserver")
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			cmd := exec.Command("go", "tool", "-n", "nats-server")
			cmd.Dir = module
			out, err := cmd.Output()
			return strings.TrimSpace(string(out)), err
		}
		if dir == "/" {
			return "", errors.New("set CULPRIT_NATS_SERVER to the program nats-server: make bin/nats-server builds it")
		}
	}
	return "", err
})

// Start starts a server. The text is added to its configuration: users, limits.
func Start(t testing.TB, text string) *Server {
	t.Helper()
	s := prepare(t, "n1", freePort(t), text)
	s.Start()
	return s
}

// Cluster starts servers that know each other, and waits until they have a leader for JetStream.
func Cluster(t testing.TB, n int, text string) []*Server {
	t.Helper()
	var routes []string
	for range n {
		routes = append(routes, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	var all []*Server
	for i, own := range routes {
		cluster := fmt.Sprintf("%s\ncluster { name: c, listen: %q, routes: [nats://%s], no_advertise: true }", text, own, strings.Join(routes, ", nats://"))
		all = append(all, prepare(t, fmt.Sprintf("n%d", i+1), freePort(t), cluster))
	}
	for _, s := range all {
		s.Launch()
	}
	for _, s := range all {
		s.AwaitReady()
	}
	return all
}

// URLs are those of all servers.
func URLs(all []*Server) (urls []string) {
	for _, s := range all {
		urls = append(urls, s.URL)
	}
	return urls
}

func prepare(t testing.TB, name string, port int, text string) *Server {
	t.Helper()
	s := &Server{URL: fmt.Sprintf("nats://127.0.0.1:%d", port), Name: name, Dir: t.TempDir(), t: t}
	s.Configure(text)
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			const most = 8 << 10
			log := s.Log()
			t.Logf("the end of the log of nats-server %s:\n%s", name, log[max(0, len(log)-most):])
		}
	})
	return s
}

// Configure writes the configuration anew, for the next [Server.Start] or [Server.Reload].
func (s *Server) Configure(text string) {
	s.t.Helper()
	text = fmt.Sprintf("server_name: %s\nlisten: %q\nhttp: \"127.0.0.1:%d\"\npid_file: %q\nlog_file: %q\njetstream { store_dir: %q, max_file_store: 4GB, max_memory_store: 64MB }\n%s\n",
		s.Name, strings.TrimPrefix(s.URL, "nats://"), s.monitor(), s.path("pid"), s.path("log"), s.path("store"), text)
	if err := os.WriteFile(s.path("config"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

// monitor is the port on which the server says how it is. It stays the same.
func (s *Server) monitor() (port int) {
	if b, err := os.ReadFile(s.path("monitor")); err == nil {
		fmt.Sscan(string(b), &port)
		return port
	}
	port = freePort(s.t)
	if err := os.WriteFile(s.path("monitor"), fmt.Append(nil, port), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return port
}

// Start starts the server, again if it was killed, and waits until it takes what it is sent.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	s.AwaitReady()
}

// Launch starts the server and does not wait for it: one of a cluster is not ready alone.
func (s *Server) Launch() {
	s.t.Helper()
	path, err := program()
	if err != nil {
		s.t.Fatalf("find nats-server: %v", err)
	}
	s.cmd = exec.Command(path, "-c", s.path("config"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	// The kernel sends Pdeathsig when the thread that started a process ends, and what is tested may end threads.
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- s.cmd.Start()
		<-ended
	}()
	if err := <-started; err != nil {
		close(ended)
		s.t.Fatalf("start nats-server: %v", err)
	}
	s.ended = ended
}

// AwaitReady asks for the server's health until JetStream works.
func (s *Server) AwaitReady() {
	s.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		out, err := fetch(fmt.Sprintf("127.0.0.1:%d", s.monitor()))
		if err == nil && out.Status == "ok" {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(s.path("log"))
			s.t.Fatalf("nats-server %s is not ready after 60 s: %v %+v\n%s", s.Name, err, out, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type health struct {
	Status string `json:"status"`
	Error  string `json:"error"`
}

// fetch asks for /healthz by hand: package net/http keeps connections, which end as errors when the server is killed.
func fetch(address string) (h health, err error) {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return h, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "GET /healthz HTTP/1.0\r\n\r\n")
	var text [4096]byte
	n := 0
	for err == nil && n < len(text) {
		var m int
		m, err = c.Read(text[n:])
		n += m
	}
	_, body, _ := strings.Cut(string(text[:n]), "\r\n\r\n")
	return h, json.Unmarshal([]byte(body), &h)
}

// Kill kills the server as a power cut would, and waits until it is gone.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server in good order.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(signal)
	s.cmd.Wait()
	s.cmd = nil
	close(s.ended)
}

// Signal sends a signal to the server. After SIGSTOP it waits until the server stands still: on a busy machine its threads may answer for
// many milliseconds before they are stopped.
func (s *Server) Signal(signal syscall.Signal) {
	s.t.Helper()
	err := s.cmd.Process.Signal(signal)
	if err == nil && signal == syscall.SIGSTOP {
		err = ignoringEINTR(func() error { return unix.Waitid(unix.P_PID, s.cmd.Process.Pid, nil, unix.WSTOPPED, nil) })
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Log returns what the server has logged.
func (s *Server) Log() string {
	b, _ := os.ReadFile(s.path("log"))
	return string(b)
}

// freePort finds a port below those that the kernel gives to connections (ip_local_port_range): none takes it before the server does, also
// not while it is away.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// given are the ports that tests of this process have.
var given sync.Map
