// Package pcapng writes hits as a pcapng file, which Wireshark and tshark open:
// https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html
package pcapng

import (
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"culprit/internal/event"
)

// Info is what a file says about itself.
type Info struct {
	Version string // of culprit
	Kernel  string // name and release of the machine's kernel; may be empty
	Comment string // on the whole file, in UTF-8; may be empty
}

// Summary counts what [Write] did with the hits.
type Summary struct {
	Packets int // written, one for each hit
	// NoBytes counts hits that cannot be written, as their packet was not kept. The file
	// counts them, too, as dropped by its interface.
	NoBytes int
}

// maxComment bounds a comment, in bytes: the format has 16 bits for its length.
const maxComment = 60_000

// Write writes one packet for each hit, in their order, with the comment that comment makes. Times
// are to the nanosecond. Memory does not grow with the hits. A comment must be valid UTF-8 and
// escape what others wrote, as [Comment] does; one that is too long is cut. Write stops at the
// first error, and leaves the file incomplete.
func Write(w io.Writer, hits iter.Seq2[event.Hit, error], comment func(*event.Hit) string, info Info) (Summary, error) {
	var sum Summary
	ng, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name:        "nflog",
		Description: "packets sent by this machine that matched a rule of culprit, one of each that repeated",
		LinkType:    layers.LinkTypeRaw, // IPv4 and IPv6, told apart by their first four bits
		OS:          info.Kernel,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Application: "culprit " + info.Version,
		OS:          info.Kernel,
		Comment:     cut(info.Comment),
	}})
	if err != nil {
		return sum, fmt.Errorf("write packets: %w", err)
	}
	var last time.Time
	for h, err := range hits {
		if err != nil {
			return sum, fmt.Errorf("write packets: %w", err)
		}
		last = h.Timestamp
		if len(h.Packet) == 0 {
			sum.NoBytes++
			continue
		}
		err = ng.WritePacketWithOptions(gopacket.CaptureInfo{
			Timestamp:     h.Timestamp,
			CaptureLength: len(h.Packet),
			// The sender wrote the header, which may claim less than we have.
			Length: max(len(h.Packet), h.Network.Bytes),
		}, h.Packet, pcapgo.NgPacketOptions{Comments: []string{cut(comment(&h))}})
		if err != nil {
			return sum, fmt.Errorf("write packets: %w", err)
		}
		sum.Packets++
	}
	err = ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate:      last,
		PacketsReceived: uint64(sum.Packets + sum.NoBytes),
		PacketsDropped:  uint64(sum.NoBytes),
	})
	if err == nil {
		err = ng.Flush()
	}
	if err != nil {
		return sum, fmt.Errorf("write packets: %w", err)
	}
	return sum, nil
}

func cut(s string) string {
	if len(s) <= maxComment {
		return s
	}
	end := maxComment
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
