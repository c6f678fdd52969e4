package event

import "time"

// Loss says that something was not seen or not kept.
type Loss struct {
	Timestamp time.Time  `json:"@timestamp"`
	Event     Meta       `json:"event"`
	Culprit   LossDetail `json:"culprit"`
}

// LossDetail is what was lost, and how much of it.
type LossDetail struct {
	Code   LossCode `json:"code"`
	Detail string   `json:"detail,omitempty"`
	Count  uint64   `json:"count"`
}

// A LossCode is what was lost; those of packets are labels of metrics, too.
type LossCode string

// What the trigger loses. LossUnverified and LossForeign are no losses of ours, but
// packets that are no hits.
const (
	LossKernel     LossCode = "kernel"     // packets: the kernel dropped them, as the netlink buffer was full
	LossOverruns   LossCode = "overruns"   // times that the netlink buffer overflowed (ENOBUFS)
	LossQueue      LossCode = "queue"      // packets: nflog.queue was full
	LossRate       LossCode = "rate"       // hits: nflog.rate was reached
	LossUnverified LossCode = "unverified" // packets without a DNS question in the rule's domain
	LossForeign    LossCode = "foreign"    // packets of no rule of ours, in our NFLOG group
)

// What else is lost.
const (
	LossFirewall       LossCode = "firewall"        // times that others removed our rules; detail: for how long
	LossKilled         LossCode = "killed"          // times that culprit was killed; detail: the last sign of it
	LossUncompared     LossCode = "uncompared"      // hits and system calls that were not compared
	LossUnrecorded     LossCode = "unrecorded"      // hits, proofs and programs: the catalogue was too slow, or failed
	LossUnrecordedEnds LossCode = "unrecorded_ends" // captures and traces: the catalogue failed for too long
	LossUnrecordedCaps LossCode = "unrecorded_pcap" // packets files: likewise
	LossUnsent         LossCode = "unsent"          // events: too many waited, or their catalogue was given up
	LossDamaged        LossCode = "damaged"         // the catalogue was damaged; detail: the file that it is kept in
	LossReplaced       LossCode = "replaced"        // the catalogue was removed or replaced; detail: the error
	LossOther          LossCode = "other"           // of too many kinds to be told apart
)

// What is removed from the evidence to keep it within its bounds.
const (
	LossTraceFiles   LossCode = "trace_files"   // detail: a RemovedCode
	LossPacketFiles  LossCode = "packet_files"  // detail: a RemovedCode
	LossOldRows      LossCode = "old_rows"      // of the catalogue, by evidence.keep; detail: the table
	LossManyRows     LossCode = "many_rows"     // of the catalogue, by evidence.max_bytes; detail: the table
	LossRepeatProofs LossCode = "repeat_proofs" // proofs and their hits that are not the first of their trace
)

// NewLoss makes the document of a loss that was noticed now.
func NewLoss(code LossCode, detail string, count uint64) Loss {
	now := time.Now()
	return Loss{
		Timestamp: now,
		Event:     Meta{ID: NewID(), Kind: "event", Action: ActionLoss},
		Culprit:   LossDetail{Code: code, Detail: detail, Count: count},
	}
}
