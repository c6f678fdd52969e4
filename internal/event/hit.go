package event

import "time"

// Grade says how sure we are of a hit's origin.
type Grade string

// The grades of an origin, best first.
const (
	GradeProof      Grade = "proof"      // a line of a trace sent this very packet, see Proof
	GradeSocket     Grade = "socket"     // the process holds the socket the packet came from
	GradeCandidates Grade = "candidates" // a guess: the processes of that UID that were alive then
	GradeNone       Grade = "none"       // no process was found
)

// Origin is what is known about the process that sent a hit's packet.
type Origin struct {
	Grade Grade `json:"grade"`
	// Reason says why the grade is not "socket".
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
	Timestamp   time.Time  `json:"@timestamp"`
	Event       Meta       `json:"event"`
	Rule        Rule       `json:"rule"`
	User        *User      `json:"user,omitempty"` // nil: the kernel gave no UID
	Network     Network    `json:"network"`
	Source      Endpoint   `json:"source"`
	Destination Endpoint   `json:"destination"`
	DNS         *DNS       `json:"dns,omitempty"` // the question that matched, or the first
	Process     *Process   `json:"process,omitempty"`
	Container   *Container `json:"container,omitempty"`
	Culprit     HitDetail  `json:"culprit"`

	// Packet is the packet from its IP header on, cut at nflog.snaplen.
	Packet []byte `json:"-"`
}

// HitDetail holds the fields of a hit that ECS does not have.
type HitDetail struct {
	Capture *Reference `json:"capture,omitempty"` // that the hit started or joined
	// NoCapture says why there is no Capture.
	NoCapture *NoCapture `json:"no_capture,omitempty"`
	Origin    Origin     `json:"origin"`
	// Count is how many identical packets came within a second of the first, in all.
	Count int `json:"count"`
	// Questions are all questions if the packet asked more than one.
	Questions []DNS `json:"questions,omitempty"`
	// Truncated says that the packet was longer than nflog.snaplen.
	Truncated bool `json:"truncated,omitempty"`
	// Proof is the line of a trace that sent the packet, once it is found.
	Proof *ProofDetail `json:"proof,omitempty"`
	// ForwardedFrom is the hit whose question a local resolver forwarded with this packet.
	ForwardedFrom *Reference `json:"forwarded_from,omitempty"`
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
