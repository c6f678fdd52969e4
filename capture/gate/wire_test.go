package gate

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"culprit/internal/proc"
)

func TestHeldOnTheWire(t *testing.T) {
	t.Parallel()
	for _, h := range []Held{
		{},
		{1, proc.ID{PID: 2, Start: 3}, 10, 4, 11, "/bin/true"},
		{math.MaxUint64, proc.ID{PID: math.MaxInt32, Start: math.MaxUint64}, math.MaxInt64, math.MaxUint32 - 1, math.MaxInt32, "/tmp/\xff\x00\n (deleted)"},
		{5, proc.ID{PID: 6, Start: 7}, 9, 8, 0, "/" + strings.Repeat("d/", 2000)},
	} {
		b := h.encode()
		if b[0] != kindHeld || len(b) > maxMessage {
			t.Errorf("%+v became a message of kind %c and %d bytes", h, b[0], len(b))
		}
		if got, err := decodeHeld(b); err != nil || got != h {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
		for n := range min(len(b), 37) {
			if got, err := decodeHeld(b[:n]); err == nil {
				t.Errorf("%d bytes became %+v", n, got)
			}
		}
	}
}

func TestCountsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, c := range []Counts{{}, {1, 2, 3, 4}, {math.MaxUint64, 0, math.MaxUint64, 1}} {
		b := c.encode()
		if got, err := decodeCounts(b); b[0] != kindPing || err != nil || got != c {
			t.Errorf("%+v came back as %c, %+v, %v", c, b[0], got, err)
		}
		for _, bad := range [][]byte{nil, {kindPing}, b[:len(b)-1], append(slices.Clone(b), 0)} {
			if got, err := decodeCounts(bad); err == nil {
				t.Errorf("%d bytes became %+v", len(bad), got)
			}
		}
	}
}

func TestWatchOnTheWire(t *testing.T) {
	t.Parallel()
	for _, uids := range [][]uint32{nil, {0}, {1000, math.MaxUint32 - 1, 7}} {
		b := encodeWatch(uids)
		if got := decodeWatch(b); b[0] != kindWatch || !slices.Equal(got, uids) {
			t.Errorf("%v came back as %c, %v", uids, b[0], got)
		}
	}
	if got := decodeWatch([]byte{kindWatch, 1, 0, 0, 0, 2, 0}); !slices.Equal(got, []uint32{1}) {
		t.Errorf("a message that was cut became %v, want the whole numbers of it", got)
	}
}

func TestGoOnTheWire(t *testing.T) {
	t.Parallel()
	b := encodeGo(1<<63 + 5)
	if len(b) != 9 || b[0] != kindGo || binary.LittleEndian.Uint64(b[1:]) != 1<<63+5 {
		t.Errorf("it became %x", b)
	}
}

func FuzzDecodeHeld(f *testing.F) {
	f.Add(Held{1, proc.ID{PID: 2, Start: 3}, 10, 4, 11, "/bin/true"}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeld(b)
		if err != nil {
			return
		}
		if again := h.encode(); !bytes.Equal(again[1:], b[1:]) {
			t.Errorf("%x became %+v, which is %x", b, h, again)
		}
	})
}

func FuzzDecodeCounts(f *testing.F) {
	f.Add(Counts{1, 2, 3, 4}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCounts(b)
		if err != nil {
			return
		}
		if again := c.encode(); !bytes.Equal(again[1:], b[1:]) {
			t.Errorf("%x became %+v, which is %x", b, c, again)
		}
	})
}

// A message has at least one byte, because an empty one means the end of the socket.
func FuzzDecodeWatch(f *testing.F) {
	f.Add(encodeWatch([]uint32{0, 1000})[1:])
	f.Add([]byte{1, 2, 3, 4, 5}) // one UID and part of another
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, rest []byte) {
		b := append([]byte{kindWatch}, rest...)
		uids := decodeWatch(b)
		if again := encodeWatch(uids); !bytes.Equal(again, b[:len(b)-len(rest)%4]) {
			t.Errorf("%x became %v, which is %x", b, uids, again)
		}
	})
}
