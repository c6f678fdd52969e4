// Command offender sends a DNS query, the way malware in a hurry does: it is what
// the black-box tests hunt. offender.c beside it is the same in C, with the same
// options, so that both ways of sending are tested.
//
//	offender [OPTION]… [-e PROGRAM [ARGUMENT…]]
//
//	-n NAME   what to ask for, an A record (x.badzone.test)
//	-s IP     the server, IPv4 or IPv6 (127.0.0.1)
//	-p PORT   its port (53)
//	-t        over TCP, not UDP
//	-c COUNT  how many queries, each from a socket of its own (1)
//	-b MS     wait before the first query
//	-i MS     wait between queries
//	-a MS     live on after the last query
//	-x        close each socket once the query is sent; else they stay open to the end
//	-w        wait for each answer, 2 s at most
//	-r        print "port=LOCALPORT id=DNSID" for each query, once it is sent
//	-e        at the end become PROGRAM (execve): same PID, other executable; the C
//	          program takes its sockets along, this one does not
//
// Options are given one by one: -t -r, not -tr. It ends with 0 when all was sent
// (and answered, with -w), with 1 and a message when not, with 2 on wrong usage.
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type options struct {
	name                    string
	server                  string
	port, count             int
	before, interval, after int
	tcp, shut, wait, report bool
	become                  bool
}

func main() {
	var o options
	flag.StringVar(&o.name, "n", "x.badzone.test", "`name` to ask for")
	flag.StringVar(&o.server, "s", "127.0.0.1", "`address` of the server")
	flag.IntVar(&o.port, "p", 53, "`port` of the server")
	flag.BoolVar(&o.tcp, "t", false, "over TCP")
	flag.IntVar(&o.count, "c", 1, "`number` of queries")
	flag.IntVar(&o.before, "b", 0, "`milliseconds` to wait before the first query")
	flag.IntVar(&o.interval, "i", 0, "`milliseconds` to wait between queries")
	flag.IntVar(&o.after, "a", 0, "`milliseconds` to live on after the last query")
	flag.BoolVar(&o.shut, "x", false, "close each socket once the query is sent")
	flag.BoolVar(&o.wait, "w", false, "wait for each answer")
	flag.BoolVar(&o.report, "r", false, "print local port and DNS id")
	flag.BoolVar(&o.become, "e", false, "become the program named by the arguments")
	flag.Parse()
	if o.become != (flag.NArg() > 0) {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "offender:", err)
		os.Exit(1)
	}
}

func run(o options, program []string) error {
	sleep(o.before)
	var open []net.Conn // the garbage collector would close what nobody holds
	for i := range o.count {
		if i > 0 {
			sleep(o.interval)
		}
		conn, err := send(o)
		if err != nil {
			return err
		}
		open = append(open, conn)
	}
	sleep(o.after)
	runtime.KeepAlive(open)
	if o.become {
		return os.NewSyscallError("execve", syscall.Exec(program[0], program, os.Environ()))
	}
	return nil
}

func sleep(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }

// send sends one query from a new socket, which stays open unless -x was given.
func send(o options) (net.Conn, error) {
	addr, err := netip.ParseAddr(o.server)
	if err != nil {
		return nil, err
	}
	network := "udp"
	if o.tcp {
		network = "tcp"
	}
	conn, err := net.Dial(network, netip.AddrPortFrom(addr, uint16(o.port)).String())
	if err != nil {
		return nil, err
	}
	id := uint16(rand.N(1 << 16))
	msg, err := query(id, o.name)
	if err != nil {
		return nil, err
	}
	if o.tcp {
		msg = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
	}
	if _, err := conn.Write(msg); err != nil {
		return nil, err
	}
	if o.report {
		fmt.Printf("port=%d id=%d\n", netip.MustParseAddrPort(conn.LocalAddr().String()).Port(), id)
	}
	if o.wait {
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return nil, err
		}
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			return nil, err
		}
	}
	if o.shut {
		return conn, conn.Close()
	}
	return conn, nil
}

// query builds a question for the A record of name (RFC 1035, section 4).
func query(id uint16, name string) ([]byte, error) {
	msg := binary.BigEndian.AppendUint16(nil, id)
	msg = append(msg, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if len(label) == 0 || len(label) > 63 {
			return nil, errors.New("a label of the name is empty or over 63 bytes")
		}
		msg = append(msg, byte(len(label)))
		msg = append(msg, label...)
	}
	if len(msg) > 12+254 {
		return nil, errors.New("the name is over 253 bytes")
	}
	return append(msg, 0, 0, 1, 0, 1), nil
}
