package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/test/harness"
)

// A FastCGI request for a script (responder, no keep-alive; FastCGI specification, section 3.3).
const fastCGI = `
import socket, struct, sys
def record(kind, body): return struct.pack(">BBHHBx", 1, kind, 1, len(body), 0) + body
def pair(k, v): return bytes([len(k), len(v)]) + k.encode() + v.encode()
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
params = b"".join(pair(*p) for p in {"SCRIPT_FILENAME": sys.argv[2], "REQUEST_METHOD": "GET"}.items())
s.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, params) + record(4, b"") + record(5, b""))
print(s.makefile("rb").read())
`

const phpScript = `<?php
$s = fsockopen("udp://127.0.0.1", 53);
fwrite($s, "\x12\x34\1\0\0\1\0\0\0\0\0\0\7php-fpm\7badzone\4test\0\0\1\0\1");
echo "answer of ", getmypid();
`

// Servers whose workers are stopped at a packet serve on, with the same workers: php-fpm, apache
// and supervisord, as Debian has them.
func TestServersNotice(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("the servers are those of Debian")
	}
	fpm, _ := filepath.Glob("/usr/sbin/php-fpm*")
	_, apache := os.Stat("/usr/sbin/apache2")
	_, supervisord := exec.LookPath("supervisord")
	if err := errors.Join(apache, supervisord); err != nil || len(fpm) == 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("php-fpm %v, %v: scripts/deps.sh test installs them", fpm, err)
		}
		t.Skip("php-fpm, apache or supervisord is missing")
	}
	h := newFreezer(t)
	d := freeze(h, frozen(4*time.Second), "sleep 0.2")
	for name, c := range map[string]struct {
		config  string
		command []string
		request []string // nil: it sends by itself
		want    string   // in the answer, or in what the server says
	}{
		"php-fpm": {
			"[global]\nerror_log = DIR/fpm.log\ndaemonize = no\n[www]\nlisten = DIR/fpm.sock\npm = static\npm.max_children = 1\n",
			[]string{fpm[0], "--fpm-config", "CONFIG", "-F"},
			[]string{"python3", "-I", "-S", "-c", fastCGI, "DIR/fpm.sock", "DIR/a.php"},
			"answer of",
		},
		"apache": {
			"ServerRoot DIR\nServerName localhost\nListen 127.0.0.1:8080\nPidFile DIR/apache.pid\nErrorLog DIR/apache.log\nDefaultRuntimeDir DIR\nMutex default:DIR\n" +
				"LoadModule mpm_prefork_module MODULES/mod_mpm_prefork.so\nLoadModule authz_core_module MODULES/mod_authz_core.so\n" +
				"LoadModule proxy_module MODULES/mod_proxy.so\nLoadModule proxy_http_module MODULES/mod_proxy_http.so\nLoadModule rewrite_module MODULES/mod_rewrite.so\n" +
				"StartServers 1\nMaxRequestWorkers 1\nRewriteEngine on\nRewriteRule ^/(.*)$ http://$1.badzone.test:9/ [P]\n",
			[]string{"/usr/sbin/apache2", "-f", "CONFIG", "-DFOREGROUND"},
			[]string{"curl", "-s", "-i", "http://127.0.0.1:8080/apache"},
			"503 Service Unavailable",
		},
		"supervisord": {
			"[supervisord]\nnodaemon=true\nlogfile=DIR/supervisord.log\npidfile=DIR/supervisord.pid\n[program:x]\ncommand=OFFENDER -n supervisord.badzone.test -a 2000\nstartsecs=1\nautorestart=unexpected\n",
			[]string{"supervisord", "-n", "-c", "CONFIG"},
			nil, "exited: x (exit status 0; expected)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			uid := harness.NewUID()
			dir := filepath.Join(h.Dir, name)
			if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, int(uid), int(uid)), os.WriteFile(filepath.Join(dir, "a.php"), []byte(phpScript), 0o644)); err != nil {
				t.Fatal(err)
			}
			fill := strings.NewReplacer("CONFIG", filepath.Join(dir, "config"), "DIR", dir, "MODULES", "/usr/lib/apache2/modules", "OFFENDER", harness.Programs.OffenderC)
			if err := os.WriteFile(filepath.Join(dir, "config"), []byte(fill.Replace(c.config)), 0o644); err != nil {
				t.Fatal(err)
			}
			args := func(all []string) (filled []string) {
				for _, a := range all {
					filled = append(filled, fill.Replace(a))
				}
				return filled
			}
			server := h.StartAs(uid, args(c.command)[0], args(c.command)[1:]...)
			said := func() string {
				logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
				text := server.Output.String()
				for _, log := range logs {
					b, _ := os.ReadFile(log)
					text += string(b)
				}
				return text
			}
			worker := 0
			if c.request != nil {
				worker = onlyChild(t, server.PID)
			}
			harness.Eventually(t, "it has served", func() error {
				out := said()
				if c.request != nil {
					r := h.Command(harness.As(uid, exec.Command(args(c.request)[0], args(c.request)[1:]...)))
					out = r.Out
				}
				if !strings.Contains(out, c.want) {
					return fmt.Errorf("it said %q, %q", out, said())
				}
				return nil
			})
			hit := d.Hit(name + ".badzone.test")
			if hit.Process == nil || worker != 0 && hit.Process.PID != worker {
				t.Fatalf("the sender is %+v, want %d", hit.Process, worker)
			}
			if tr := d.Trace(hit.Process.PID, "is there", nil); !tr.Culprit.FromPacket {
				t.Errorf("the trace is %+v, want it from the packet", tr.Culprit)
			}
			if worker != 0 && onlyChild(t, server.PID) != worker {
				t.Errorf("the worker is another one now: %s", said())
			}
		})
	}
}
