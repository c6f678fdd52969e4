package sensor

import (
	"encoding/binary"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// Who sends while it is still on the list for its start, as it goes on that moment, stands still at its packet, and does until that hold
// ends. Who is on the list for a packet does not, nor one of several threads of a process that is on it for becoming the user.
func TestStopAfterStart(t *testing.T) {
	t.Parallel()
	const text = "TestStopAfterStart"
	f := tapped(t, text)
	s := f.egress.sensor
	if !f.egress.freezes {
		t.Skip("programs on this hook stop nobody before Linux 6.16")
	}
	if err := s.maps.lease.Put(uint32(0), uint64(monotonic()+int64(time.Hour))); err != nil {
		t.Fatal(err)
	}
	n := testkit.NewNet(t)
	for _, tt := range []struct {
		by      uint64
		threads int // beside the one that sends
		stops   bool
	}{{holdByExec, 0, true}, {holdByFork, 0, true}, {holdByUID, 0, true}, {holdByUID, 1, false}, {holdByPacket, 0, false}} {
		cmd := exec.Command("python3", "-I", "-S", "-c", `
import socket, sys, threading
for _ in range(int(sys.argv[1])): threading.Thread(target=threading.Event().wait, daemon=True).start()
sys.stdin.read()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), ("127.0.0.1", 53))`, fmt.Sprint(tt.threads), text)
		in, err := cmd.StdinPipe()
		if err == nil {
			err = n.Start(cmd)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		st, err := proc.Default.Stat(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		entry := markOf(st.ID)
		number := holdBit | tt.by<<holdByBit | uint64(st.PID)
		binary.NativeEndian.PutUint64(entry[stopNumber:], number)
		binary.NativeEndian.PutUint32(entry[stopPID:], uint32(st.PID))
		if err := s.maps.stopped.Put(keyOf(number), entry); err != nil {
			t.Fatal(err)
		}
		if !s.Claim(st.ID) {
			t.Error("it is on the list, and nobody knows")
		}
		_ = s.maps.lately.Delete(uint32(st.PID)) // what Claim did
		in.Close()
		got, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Process != st.ID || (got.Hold != 0) != tt.stops {
			t.Errorf("held by %d, with %d other threads, it has the hold %x at its packet, want one: %v", tt.by, tt.threads, got.Hold, tt.stops)
		}
		if err := s.maps.stopped.Delete(keyOf(number)); err != nil {
			t.Error(err)
		}
		if got.Hold != 0 {
			if s.AtStart(got.Hold) {
				t.Errorf("%x is a hold at the start", got.Hold)
			}
			testkit.Eventually(t, "it stands still", func() error {
				if st, err := proc.Default.Stat(cmd.Process.Pid); err != nil || st.State != 'T' {
					return fmt.Errorf("it is %+v, %w", st, err)
				}
				return nil
			})
			if _, was := s.Go(got.Hold); !was {
				t.Error("it stood still, and was not let go")
			}
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
