package natsserver

import (
	"net"
	"sync"
	"testing"
)

// A Gate stands before a server. It lets so many bytes through, both ways together, and then holds what comes until it is opened: what
// is under way stays so.
type Gate struct {
	URL string
	// Held is closed when the gate holds something for the first time.
	Held chan struct{}

	mu     sync.Mutex
	opened *sync.Cond
	left   int64 // below 0: it is open
	passed int64
	held   bool
	ended  bool
	conns  []net.Conn
}

// Gate makes a gate before the server. It ends with the test.
func (s *Server) Gate(bytes int64) *Gate {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	return NewGate(s.t, l, func() (net.Conn, error) { return net.Dial("tcp", s.URL[len("nats://"):]) }, bytes)
}

// NewGate makes a gate: who connects to the listener reaches what dial does.
func NewGate(t testing.TB, l net.Listener, dial func() (net.Conn, error), bytes int64) *Gate {
	g := &Gate{URL: "nats://" + l.Addr().String(), Held: make(chan struct{}), left: bytes}
	g.opened = sync.NewCond(&g.mu)
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		g.end()
		all.Wait()
	})
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := dial()
			if err != nil || !g.keep(from, to) {
				from.Close()
				continue
			}
			all.Go(func() { g.pass(to, from) })
			all.Go(func() { g.pass(from, to) })
		}
	})
	return g
}

// Open lets everything through from now on.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = -1
	g.opened.Broadcast()
}

// Passed returns how many bytes went through.
func (g *Gate) Passed() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passed
}

// Cut closes all connections; others can be made.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

func (g *Gate) keep(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	g.conns = append(g.conns, conns...)
	return true
}

func (g *Gate) end() {
	g.mu.Lock()
	g.ended = true
	g.opened.Broadcast()
	g.mu.Unlock()
	g.Cut()
}

func (g *Gate) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil || !g.wait(int64(n)) {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// wait waits until so many bytes may pass.
func (g *Gate) wait(n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.left >= 0 && g.left < n && !g.ended {
		if !g.held {
			g.held = true
			close(g.Held)
		}
		g.left = 0 // nothing overtakes
		g.opened.Wait()
	}
	if g.left >= n {
		g.left -= n
	}
	g.passed += n
	return !g.ended
}
