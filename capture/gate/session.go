package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"

	"culprit/internal/proc"
	"culprit/internal/stopped"
)

// session is the life of one gate, seen by the keeper.
type session struct {
	keeper   *Keeper
	out      Output
	conn     net.Conn
	cmd      *exec.Cmd
	in       chan []byte
	held     map[uint64]Held // held, and not yet told to go on
	pings    *time.Ticker    // while anything is watched
	owed     int             // how many pings are unanswered
	pingSent time.Time       // the first of them
}

// maxOwed is how many answers the gate may owe. They are counted, not timed: if we could not run ourselves, its answers may be waiting.
const maxOwed = int(time.Second / pingEvery)

// errEnded says that the gate's end of the socket was closed.
var errEnded = errors.New("the gate has ended")

// serve runs one gate until it fails or the context ends.
func (k *Keeper) serve(ctx context.Context, watched *[]uint32, out Output) (err error) {
	conn, cmd, err := k.open()
	if err != nil {
		return fmt.Errorf("start the gate: %w", err)
	}
	s := &session{
		keeper: k, out: out, conn: conn, cmd: cmd, in: make(chan []byte, 64),
		held: map[uint64]Held{}, pings: time.NewTicker(pingEvery),
	}
	go receive(conn, s.in)
	defer func() {
		s.close()
		if errors.Is(err, errEnded) {
			err = s.why(time.Now())
		}
	}()
	s.pings.Stop()
	if len(*watched) > 0 {
		if err := s.watch(*watched); err != nil {
			return err
		}
	}
	for {
		var err error
		select {
		case *watched = <-k.watches:
			err = s.watch(*watched)
		case number := <-k.gos:
			s.gone(number)
			err = s.send(encodeGo(number))
		case now := <-s.pings.C:
			err = s.ping(now)
		case b, open := <-s.in:
			if !open {
				return errEnded
			}
			if err = s.handle(b); err != nil {
				err = fmt.Errorf("read from the gate: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// watch tells the gate whose programs to hold.
func (s *session) watch(uids []uint32) error {
	s.pings.Stop()
	if s.owed = 0; len(uids) > 0 {
		s.pings.Reset(pingEvery)
	}
	return s.send(encodeWatch(uids))
}

// ping asks the gate for a sign of life, and fails if it has owed us one for too long. While
// the gate watches, its watchdog kills it sooner if it hangs. But it may have been stopped
// before.
func (s *session) ping(now time.Time) error {
	if s.owed == 0 {
		s.pingSent = now
	} else if s.owed >= maxOwed {
		return fmt.Errorf("the gate has not answered for %s: the machine is very busy, or something stopped the gate", now.Sub(s.pingSent).Round(time.Millisecond))
	}
	s.owed++
	return s.send([]byte{kindPing})
}

// handle processes a message of the gate.
func (s *session) handle(b []byte) error {
	switch b[0] {
	case kindHeld:
		h, err := decodeHeld(b)
		if err != nil {
			return err
		}
		if h.Number != 0 {
			if len(s.held) >= stopped.MaxListed {
				clear(s.held) // most of them were told to go on by messages that found no room
			}
			s.held[h.Number] = h
		}
		s.out.Held(h)
	case kindMarks:
		s.out.Marked(string(b[1:]))
	case kindPing:
		s.owed = 0
		c, err := decodeCounts(b)
		if err != nil {
			return err
		}
		s.out.Counted(c)
	}
	return nil
}

// gone reports the end of a hold, if there was one.
func (s *session) gone(number uint64) {
	if h, ok := s.held[number]; ok {
		s.out.Gone(min(time.Since(h.Began()), s.keeper.limit))
		delete(s.held, number)
	}
}

// send writes a message to the gate. A gate that hangs does not read.
func (s *session) send(b []byte) error {
	s.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("write to the gate: %w", err)
	}
	return nil
}

// close ends the gate. It closes the socket first, which ends a healthy gate, and then kills
// it.
func (s *session) close() {
	s.pings.Stop()
	s.conn.Close()
	timer := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	s.cmd.Wait()
	timer.Stop()
	for range s.in {
	}
	for number, h := range s.held {
		s.gone(number)
		if s.keeper.stop { // a killed gate cannot resume them itself
			stopped.Resume(proc.Default, h.ID)
		}
	}
}

// why says why the gate has ended, after close.
func (s *session) why(now time.Time) error {
	state := s.cmd.ProcessState
	if state == nil {
		return errEnded
	}
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("%w: %s", errEnded, state)
	}
	// The watchdog is fed before the gate waits for the first ping that it does not answer.
	if silent := now.Sub(s.pingSent); s.owed > 0 && silent >= s.keeper.limit {
		return fmt.Errorf("the gate did nothing for %s, so its watchdog killed it, and no program waits for it: the machine is very busy, or something stopped the gate", silent.Round(time.Millisecond))
	}
	return errors.New("the gate was killed by somebody, or because memory was short")
}

// receive passes messages on until the socket closes.
func receive(conn *net.UnixConn, in chan<- []byte) {
	defer close(in)
	buf := make([]byte, maxMessage)
	for {
		n, err := conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		in <- bytes.Clone(buf[:n])
	}
}
