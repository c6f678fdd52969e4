// Command fleetdemo shows a fleet on one machine: three hosts, each in network and mount namespaces of its own, a
// nats-server, and culprit serve --fleet. It says what to open and what to type, and cleans up when it is stopped.
//
//	make fleet-demo
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hosts are the hosts of the demo, with the user who is suspicious there.
var hosts = map[string]int{"web1": 20001, "web2": 20002, "db1": 20003}

func main() {
	var err error
	if len(os.Args) == 4 && os.Args[1] == "host" {
		err = runHost(os.Args[2], os.Args[3])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet-demo:", err)
		os.Exit(1)
	}
}

// demo is the running demo.
type demo struct {
	dir     string // everything is in it
	culprit string
	log     *os.File
	running []*exec.Cmd // the first is stopped last
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if os.Geteuid() != 0 {
		return errors.New("it needs root, to make namespaces: use make fleet-demo")
	}
	d := demo{culprit: os.Getenv("CULPRIT_BIN")}
	if d.dir, err = os.MkdirTemp("", "fleet-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	if d.log, err = os.Create(d.path("log")); err != nil {
		return err
	}
	server, err := d.serve(ctx)
	if err != nil {
		return err
	}
	go forward(ctx, d.path("nats.sock"), server)
	for name, uid := range hosts {
		if err := d.host(ctx, name, uid); err != nil {
			return fmt.Errorf("start host %s (the log is %s): %w", name, d.log.Name(), err)
		}
	}
	page, err := d.page(ctx, server)
	if err != nil {
		return err
	}
	fmt.Printf(`
Three hosts run: web1, web2 and db1, each in namespaces of its own. culprit hunts on each for the text BADZONE in questions
for names, and sends what it finds to one nats-server.

1. Open this in a browser:

     %[1]s

2. In another terminal, ask for a name on web1, as a user that is on no list:

     sudo %[2]s/web1 getent hosts mail.badzone.test

   The page has the hit at once, the host that it is of, and a second later its proof. Ask on web2, too, and open a hit:
   "Who else asked" names the other host.

3. Its trace is still on its host. When the capture has ended (10 seconds), get it, by the id of the hit:

     sudo %[2]s/fleet hits
     sudo %[2]s/fleet fetch ID

   and load the page again: now it has the lines of the trace around the question, and the trace itself.

More:

     sudo %[2]s/fleet hosts
     sudo %[2]s/fleet hits --name badzone.test
     sudo %[2]s/fleet show ID

Ctrl-C ends all of it, and removes %[2]s.
`, page, d.dir)
	<-ctx.Done()
	fmt.Println("\nending …")
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// start starts a program, which ends with us.
func (d *demo) start(cmd *exec.Cmd, out io.Writer) error {
	cmd.Stderr = d.log
	if cmd.Stdout = out; out == nil {
		cmd.Stdout = d.log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for us: we end them in order
	if err := cmd.Start(); err != nil {
		return err
	}
	d.running = append(d.running, cmd)
	return nil
}

// serve starts nats-server and makes the fleet there. It returns the server's address.
func (d *demo) serve(ctx context.Context) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		return "", err
	}
	address = l.Addr().String()
	l.Close()
	config := fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\n", address, d.path("nats"))
	if err := os.WriteFile(d.path("nats.conf"), []byte(config), 0o600); err != nil {
		return "", err
	}
	if err := d.start(exec.Command(os.Getenv("CULPRIT_NATS_SERVER"), "-c", d.path("nats.conf")), nil); err != nil {
		return "", fmt.Errorf("start nats-server: %w", err)
	}
	args := []string{"fleet", "init", "--servers", "nats://" + address, "--max-bytes", "1GiB", "--bundle-bytes", "256MiB"}
	for name := range hosts {
		args = append(args, "--host", name)
	}
	return address, eventually(ctx, func() error {
		out, err := exec.CommandContext(ctx, d.culprit, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("culprit fleet init: %w: %s", err, out)
		}
		return nil
	})
}

// host starts a host, and waits until it hunts.
func (d *demo) host(ctx context.Context, name string, uid int) error {
	own := d.path(name + ".d")
	if err := os.Mkdir(own, 0o700); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"resolv.conf":   "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
		"culprit.yaml": fmt.Sprintf(`rules: [{name: badzone, string: BADZONE}]
capture: {levels: [{hits: 1, processes: 20, window: 5s, strings: 512}]}
evidence: {dir: %s/evidence, min_free: 100MiB}
log: {format: json}
fleet: {servers: ["nats://127.0.0.1:4222"], host: %s, bundles: request}
`, own, name),
	} {
		if err := os.WriteFile(filepath.Join(own, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "host", own, d.path("nats.sock"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	said, into, err := os.Pipe()
	if err != nil {
		return err
	}
	if err := d.start(cmd, into); err != nil {
		return err
	}
	into.Close()
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "ready\n" {
		return fmt.Errorf("it is not ready: %q", line)
	}
	enter := fmt.Sprintf("#!/bin/sh\n# Run a program on host %s as its suspicious user.\nexec nsenter --target %d --net --mount setpriv --reuid %d --regid %d --clear-groups -- \"$@\"\n", name, cmd.Process.Pid, uid, uid)
	return os.WriteFile(d.path(name), []byte(enter), 0o700)
}

// page starts culprit serve --fleet. It returns where it is.
func (d *demo) page(ctx context.Context, server string) (url string, err error) {
	config := fmt.Sprintf("evidence: {min_free: 100MiB}\nfleet: {servers: [\"nats://%s\"], dir: %s}\n", server, d.path("mirror"))
	if err := os.WriteFile(d.path("reader.yaml"), []byte(config), 0o600); err != nil {
		return "", err
	}
	fleet := fmt.Sprintf("#!/bin/sh\n# culprit fleet, for the fleet of the demo.\ncommand=$1\nshift\nexec %s fleet \"$command\" -c %s \"$@\"\n", d.culprit, d.path("reader.yaml"))
	if err := os.WriteFile(d.path("fleet"), []byte(fleet), 0o700); err != nil {
		return "", err
	}
	said, into, err := os.Pipe()
	if err != nil {
		return "", err
	}
	port := "9358"
	if l, err := net.Listen("tcp", "127.0.0.1:"+port); err != nil {
		port = "0" // somebody has it
	} else {
		l.Close()
	}
	if err := d.start(exec.Command(d.culprit, "serve", "--fleet", "-c", d.path("reader.yaml"), "--listen", "127.0.0.1:"+port), into); err != nil {
		return "", err
	}
	into.Close()
	line, err := bufio.NewReader(said).ReadString('\n')
	_, url, ok := strings.Cut(strings.TrimSpace(line), " is shown at ")
	if err != nil || !ok {
		return "", fmt.Errorf("culprit serve says %q (the log is %s): %w", line, d.log.Name(), err)
	}
	return url, nil
}

// end ends all that was started, the last first, and removes its files.
func (d *demo) end() error {
	for i := len(d.running) - 1; i >= 0; i-- {
		cmd := d.running[i]
		cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		late.Stop()
	}
	return os.RemoveAll(d.dir)
}

// forward brings what comes on a socket of the file system, which hosts reach from their namespaces, to the server.
func forward(ctx context.Context, path, server string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet-demo:", err)
		return
	}
	defer l.Close()
	pass(ctx, l, "tcp", server)
}

// pass connects everybody who comes with an address.
func pass(ctx context.Context, l net.Listener, network, address string) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer from.Close()
			to, err := net.Dial(network, address)
			if err != nil {
				return
			}
			defer to.Close()
			var both sync.WaitGroup
			for a, b := range map[net.Conn]net.Conn{from: to, to: from} {
				both.Go(func() {
					io.Copy(a, b)
					a.Close()
				})
			}
			both.Wait()
		}()
	}
}

// eventually tries until it works, for half a minute.
func eventually(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
