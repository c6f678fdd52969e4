package event

import (
	"fmt"
	"strconv"
	"time"
)

// Grade says how sure we are of a hit's origin.
type Grade string

// The grades of an origin, best first.
const (
	GradeProof      Grade = "proof"      // a line of a trace sent this very packet, see Proof
	GradeKernel     Grade = "kernel"     // the kernel saw the process send this very packet, see Sent
	GradeSocket     Grade = "socket"     // the process holds the socket the packet came from
	GradeCandidates Grade = "candidates" // a guess: the processes of that UID that were alive then
	GradeNone       Grade = "none"       // no process was found
)

// Origin is what is known about the process that sent a hit's packet.
type Origin struct {
	Grade Grade `json:"grade"`
	// Reason says why the grade is neither "kernel" nor "socket".
	Reason *Unattributed `json:"reason,omitempty"`
	// Unlisted says that nobody searched the user's processes for candidates, because they had
	// just been searched for another packet.
	Unlisted bool `json:"unlisted,omitempty"`
	// Processes are the candidates. If the grade is "socket", they are those that hold the
	// socket besides the document's "process".
	Processes []Process `json:"processes,omitempty"`
	// More counts the processes left out of Processes.
	More int `json:"more,omitempty"`
}

// Hit is one logged packet that matched a rule.
type Hit struct {
	Timestamp   time.Time `json:"@timestamp"`
	Event       Meta      `json:"event"`
	Rule        Rule      `json:"rule"`
	User        *User     `json:"user,omitempty"` // nil: the kernel gave no UID
	Network     Network   `json:"network"`
	Source      Endpoint  `json:"source"`
	Destination Endpoint  `json:"destination"`
	DNS         *DNS      `json:"dns,omitempty"`    // the question that matched, or the first
	Threat      *Threat   `json:"threat,omitempty"` // the entry of a list that the question matched
	Process     *Process  `json:"process,omitempty"`
	Host        *Host     `json:"host,omitempty"` // in a fleet: whose hit it is
	Place
	Culprit HitDetail `json:"culprit"`

	// Packet is the packet from its IP header on, cut at nflog.snaplen. The catalogue has it beside the
	// document.
	Packet []byte `json:"-"`
	// Hold is the number under which the kernel stopped the process, 0 if it did not. It goes
	// on when the gate is told so, or at the deadline.
	Hold uint64 `json:"-"`
	// Within are the containers that the sender was in for certain, the outermost first: whose processes
	// are captured. Located says that somebody looked, while the sender was there.
	Within  []string `json:"-"`
	Located bool     `json:"-"`
	// Payload is what the packet says, behind its UDP or TCP header.
	Payload []byte `json:"-"`
}

// HitDetail holds the fields of a hit that ECS does not have.
type HitDetail struct {
	Capture *Reference `json:"capture,omitempty"` // that the hit started or joined
	// NoCapture says why there is no Capture.
	NoCapture *NoCapture `json:"no_capture,omitempty"`
	Origin    Origin     `json:"origin"`
	// Sent is what the kernel saw of the sender when it sent the packet. It is set if the grade
	// of the origin is "kernel".
	Sent *Sent `json:"sent,omitempty"`
	// Netns is the network namespace of the packet, if it is not the one that culprit runs in.
	Netns *Namespace `json:"netns,omitempty"`
	// Count is how many identical packets came within a second of the first, in all.
	Count int `json:"count"`
	// Listed is where the Threat stands.
	Listed *Listed `json:"listed,omitempty"`
	// Questions are all questions if the packet asked more than one.
	Questions []DNS `json:"questions,omitempty"`
	// Truncated says that the packet was longer than nflog.snaplen.
	Truncated bool `json:"truncated,omitempty"`
	// Proof is the line of a trace that sent the packet, once it is found.
	Proof *ProofDetail `json:"proof,omitempty"`
	// Snapshot is what the sender was when it sent the packet, if it was frozen then.
	Snapshot *Reference `json:"snapshot,omitempty"`
	// Answer is what followed the packet, see there.
	Answer *Answer `json:"answer,omitempty"`
	// ForwardedFrom is the hit whose question or message a forwarder sent on with this packet.
	ForwardedFrom *Forwarded `json:"forwarded_from,omitempty"`
	// ForwardedCandidates are such hits if several programs asked the same: one of them it was. If nothing says that there is no
	// capture for that (NoCaptureForwarded), the sender may be no forwarder, and have sent this by itself.
	ForwardedCandidates []Forwarded `json:"forwarded_candidates,omitempty"`
	// Serves are network namespaces of which the sender has a device. So it sends for programs in them,
	// as pasta and slirp4netns do, and may have sent this packet for one.
	Serves []Served `json:"serves,omitempty"`
	// Raw is the packet of a hit that is sent to a fleet, and nil elsewhere.
	Raw []byte `json:"packet,omitempty"`
}

// Namespace is a network namespace.
type Namespace struct {
	Inode uint32 `json:"inode"`          // as /proc/PID/ns/net has it (man 7 namespaces)
	Name  string `json:"name,omitempty"` // in /run/netns
	// Owner is who made the user namespace that it belongs to, and so has power over all that is in it.
	Owner *User `json:"owner,omitempty"`
}

// String names the namespace for people: "blue (4026532200)", or "4026532200".
func (n Namespace) String() string {
	if n.Name == "" {
		return strconv.FormatUint(uint64(n.Inode), 10)
	}
	return fmt.Sprintf("%s (%d)", n.Name, n.Inode)
}

// Sent is what the kernel saw of the sender of a packet, in its own context, while it sent the
// packet. The process is the hit's.
type Sent struct {
	Timestamp time.Time `json:"@timestamp"`
	TID       int       `json:"tid"` // the thread
	// Syscall is the system call in progress: sendto, sendfile, io_uring_enter, …
	Syscall string `json:"syscall"`
	// User is the effective user of the thread. The hit's is the user who opened the socket.
	User   User   `json:"user"`
	Cgroup uint64 `json:"cgroup_id"` // of cgroup v2: the inode of its directory
	// Replaced says that the process had executed another program before anybody looked: which one
	// sent the packet is not known, only its name.
	Replaced bool `json:"replaced,omitempty"`
}

// Owner returns the user whose processes are captured for the hit: who opened the packet's socket
// or, if the kernel does not know that any more, who sent the packet. It is nil if neither is
// known.
func (h *Hit) Owner() *User {
	if h.User == nil && h.Culprit.Sent != nil {
		return &h.Culprit.Sent.User
	}
	return h.User
}

// Senders returns the processes that hold the packet's socket, if any are known.
func (h *Hit) Senders() []Process {
	if h.Process == nil {
		return nil
	}
	return append([]Process{*h.Process}, h.Culprit.Origin.Processes...)
}

// Asks returns the question of the packet for people: "x.badzone.test A", or "-".
func (h *Hit) Asks() string {
	if h.DNS == nil {
		return "-"
	}
	return h.DNS.Question.Name + " " + h.DNS.Question.Type
}
