package serve

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/strace"
	"culprit/internal/testkit"
)

// sentHit makes a hit of a UDP packet from 127.0.0.1:4000 to 127.0.0.1:53 in a capture.
func sentHit(capture string, payload string) *event.Hit {
	return hitOf("x.badzone.test", func(h *event.Hit) {
		h.Process, h.Culprit.Origin = nil, event.Origin{Grade: event.GradeCandidates}
		h.Culprit.NoCapture, h.Culprit.Capture = nil, &event.Reference{ID: capture}
		h.Source, h.Destination = event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 4000}, event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53}
		ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1}
		udp := []byte{0, 0, 0, 53, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(28+len(payload)))
		binary.BigEndian.PutUint16(udp, 4000)
		binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
		h.Packet = slices.Concat(ip, udp, []byte(payload))
		h.Network.Bytes = len(h.Packet)
	})
}

// From a hit one gets to the line that proves it, from the line to the hit, and from proof to proof; all lines of a
// packet that several calls made are marked.
func TestTraceProof(t *testing.T) {
	t.Parallel()
	const question = "\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x07badzone\x04test\x00\x00\x01\x00\x01"
	one, two := "\x00\x01"+question, "\x00\x02"+question
	now := time.Now()
	line := func(payload, flags string) string {
		q := strace.AppendQuoted(nil, []byte(payload), false)
		return fmt.Sprintf("812 %d.%06d sendto(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, %s, %d, %s, NULL, 0) = %[4]d <0.00001>\n", now.Unix(), now.Nanosecond()/1000, q, len(payload), flags)
	}
	filler := func(n int) string { return strings.Repeat(fmt.Sprintf("812 %d.000000 close(3) = 0\n", now.Unix()), n) }
	text := filler(99) + line(one, "0") + filler(399) + line(two[:20], "MSG_MORE") + filler(9) + line(two[20:], "0") + filler(500)
	at, c, traces, s := inCapture(t, "")
	// Only Prove reads this: the prover that reads along would prove the same hits.
	if err := os.WriteFile(traces[0].File.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*event.Hit{sentHit(c.Event.ID, one), sentHit(c.Event.ID, two)} {
		h.Timestamp = now.Add(time.Millisecond)
		s.Hit(h)
		shows(t, at+"/hits/"+h.Event.ID, h.Event.ID)
	}
	if done, err := s.Prove(""); err != nil || done.Found != 2 {
		t.Fatalf("prove: %+v, %v", done, err)
	}
	page := "/traces/" + traces[0].Event.ID
	first := page + "?line=100#L100"
	testkit.Eventually(t, "the first page leads to the proofs", func() error {
		_, body := get(t, at)
		if linkOn(body, "line 100") != first || linkOn(body, "lines 500 and 510") != page+"?line=510#L510" {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	_, body := get(t, at+page+"?line=100")
	hit := ""
	for _, m := range hrefLink.FindAllStringSubmatch(body, -1) {
		if strings.HasPrefix(m[2], "proof of hit …") {
			hit = m[1]
		}
	}
	_, of := get(t, at+hit)
	if hit == "" || !contains(of, `<a class="no" href="`+first+`">100</a>`) || !contains(of, `<dd><a href="`+first+`">`) {
		t.Errorf("the line leads to %q, which does not lead back", hit)
	}
	if n := strings.Count(body, "badge proven"); n != 1 || linkOn(body, "Next proof") != page+"?line=510#L510" || linkOn(body, "Previous proof") != "" {
		t.Errorf("%d proofs among the lines; the next is %s", n, linkOn(body, "Next proof"))
	}
	_, body = get(t, at+page+"?line=510")
	if strings.Count(body, "part of the proof of hit …") != 1 || strings.Count(body, ">proof of hit …") != 1 || linkOn(body, "Previous proof") != first {
		t.Errorf("of two lines: %s", said(body))
	}
	if _, body := get(t, at+page+"?thread=812&line=505"); strings.Count(body, "badge proven") != 2 {
		t.Error("a thread's lines are not marked")
	}
}
