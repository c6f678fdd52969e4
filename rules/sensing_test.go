package rules

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

func TestReadSensing(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]Sensing{
		`-A C -p udp -m string --string "x" --algo kmp -m bpf --object-pinned /sys/fs/bpf/culprit-C-1 -j NFLOG --nflog-prefix x --nflog-group 5`:               {Pin: "/sys/fs/bpf/culprit-C-1"},
		`-A C -p udp -m string --string "x" --algo kmp -j MARK --set-xmark 0x40000000/0x40000000`:                                                              {Mark: 1 << 30},
		`-A C -m mark --mark 0x1/0x1 -p udp -m string --string "x" --algo kmp -j NFLOG --nflog-prefix x`:                                                       {},
		`-A C -m string --string " -m bpf --object-pinned /tmp/x -j NFLOG" --algo kmp -j NFLOG --nflog-prefix x`:                                               {},
		`-A C -m string --string " -m bpf --object-pinned /tmp/x -j NFLOG" --algo kmp -m bpf --object-pinned /run/culprit/bpf-1/p -j NFLOG --nflog-prefix "x"`: {Pin: "/run/culprit/bpf-1/p"},
		`-A C -m string --string " -j MARK --set-xmark 0x1/0x1" --algo kmp -j NFLOG`:                                                                           {},
	} {
		if got, found := readSensing(line); got != want || found != (want != Sensing{}) {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

// pinned pins a program that matches every packet, in a BPF file system of the namespace.
func (e *env) pinned(t *testing.T) (file string) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dir := t.TempDir()
	file = filepath.Join(dir, "culprit-CULPRIT-1")
	e.ok(t, func() error {
		if err := unix.Mount("culprit", dir, "bpf", 0, ""); err != nil {
			return err
		}
		return p.Pin(file)
	})
	return file
}

func (e *env) unpin(t *testing.T, file string) {
	t.Helper()
	e.ok(t, func() error { return os.Remove(file) })
}

// Another process than the daemon calls the rules healthy that the daemon installed, whatever they do
// for its sensor, and leaves them as they are.
func TestStatusOfADaemonsRules(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.touch(t)
		before := e.saved(t)
		c := parse(t, twoRules)
		for name, s := range map[string]Sensing{"none": {}, "mark": {Mark: 1 << 30}, "rule": {Pin: "pin"}} {
			if s.Pin != "" {
				if e.backend == BackendLegacy {
					continue
				}
				s.Pin = e.pinned(t)
			}
			var daemons *Firewall
			e.ok(t, func() (err error) { daemons, err = New(c, s, e.log); return err })
			e.ok(t, daemons.Install)
			installed := e.saved(t)
			var others *Firewall
			e.ok(t, func() (err error) { others, err = NewInstalled(c, e.log); return err })
			if st := e.status(t, others); !st.Healthy() {
				t.Errorf("%s: %+v", name, st)
			}
			e.ok(t, others.Install)
			e.same(t, installed, name+": after another Install")
			// With other rules they are not.
			var wrong *Firewall
			e.ok(t, func() (err error) {
				wrong, err = NewInstalled(parse(t, strings.ReplaceAll(twoRules, "BADZONE", "OTHER")), e.log)
				return err
			})
			if e.status(t, wrong).Healthy() {
				t.Errorf("%s: other rules are healthy", name)
			}
			if s.Pin != "" {
				e.unpin(t, s.Pin)
				e.ok(t, func() (err error) { others, err = NewInstalled(c, e.log); return err })
				if e.status(t, others).Healthy() {
					t.Error("the rules are healthy although their pin is gone")
				}
			}
			e.ok(t, func() error { _, err := Clean("CULPRIT", e.log); return err })
			e.same(t, before, name+": after Clean")
		}
	})
}

// What others can do while a rule of ours names a pin that is gone. With iptables-legacy they
// cannot change anything: so the way "rule" is not used there. With iptables-nft they can; only
// to load again what iptables-save printed fails: so the way "nflog" comes before it.
func TestOthersWithoutOurPin(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.touch(t)
		pin := e.pinned(t)
		for _, args := range []string{"-N CULPRIT", "-A CULPRIT -p udp -m bpf --object-pinned " + pin + " -j NFLOG --nflog-prefix a --nflog-group 1", "-I OUTPUT 1 -j CULPRIT"} {
			e.Must(t, "iptables", append([]string{"-t", "raw"}, strings.Fields(args)...)...)
		}
		change := func() error {
			_, err := e.Run("iptables", "-t", "raw", "-A", "OUTPUT", "-p", "tcp", "--dport", "1", "-j", "ACCEPT")
			return err
		}
		reload := func() error {
			_, err := e.Run("sh", "-c", "iptables-save -t raw | iptables-restore")
			return err
		}
		if err := errors.Join(change(), reload()); err != nil {
			t.Errorf("with the pin: %v", err)
		}
		e.unpin(t, pin)
		if err := change(); (err == nil) != (e.backend == BackendNFT) {
			t.Errorf("without the pin, another's iptables -A: %v", err)
		}
		if err := reload(); err == nil {
			t.Error("without the pin, another's iptables-restore works: the ways may be tried in another order")
		}
	})
}

// Fits tries the rules for real, and leaves nothing behind.
func TestFits(t *testing.T) {
	eachBackend(t, func(t *testing.T, e *env) {
		e.touch(t)
		before := e.saved(t)
		c := parse(t, twoRules)
		fits := func(s Sensing) error { return e.do(func() error { return Fits(t.Context(), c, s) }) }
		if err := fits(Sensing{Mark: 1 << 30}); err != nil {
			t.Error(err)
		}
		err := fits(Sensing{Pin: e.pinned(t)})
		if legacy := e.backend == BackendLegacy; legacy != (err != nil) || legacy && !strings.Contains(err.Error(), "legacy") {
			t.Errorf("with a pin: %v", err)
		}
		if err := fits(Sensing{Pin: "/nowhere"}); err == nil {
			t.Error("a pin that is not there fits")
		}
		e.same(t, before, "after all")
	})
}
