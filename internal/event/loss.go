package event

import "time"

// Loss says that something was not seen or not kept.
type Loss struct {
	Timestamp time.Time  `json:"@timestamp"`
	Event     Meta       `json:"event"`
	Culprit   LossDetail `json:"culprit"`
}

// LossDetail says what was lost, and how much.
type LossDetail struct {
	Code   LossCode `json:"code"`
	Detail string   `json:"detail,omitempty"`
	Count  uint64   `json:"count"`
}

// A LossCode says what was lost. The codes for packets are also labels of metrics.
type LossCode string

// Losses of the trigger. LossUnverified and LossForeign count packets that are no hits, and are
// not our failures.
const (
	LossKernel     LossCode = "kernel"     // packets: the kernel dropped them because the netlink buffer was full
	LossOverruns   LossCode = "overruns"   // times that the netlink buffer overflowed (ENOBUFS)
	LossQueue      LossCode = "queue"      // packets: nflog.queue was full
	LossRate       LossCode = "rate"       // hits: nflog.rate was reached
	LossUnverified LossCode = "unverified" // packets without a DNS question in the rule's domain
	LossForeign    LossCode = "foreign"    // packets of no rule of ours, in our NFLOG group
)

// Other losses.
const (
	LossFirewall       LossCode = "firewall"        // times that others removed our rules; detail: for how long
	LossKilled         LossCode = "killed"          // times that culprit was killed; detail: the last sign of it
	LossUncompared     LossCode = "uncompared"      // hits and system calls that were not compared
	LossUnrecorded     LossCode = "unrecorded"      // hits, proofs and programs: the catalogue was too slow, or failed
	LossUnrecordedEnds LossCode = "unrecorded_ends" // captures and traces: the catalogue failed for too long
	LossUnrecordedCaps LossCode = "unrecorded_pcap" // packet files: likewise
	LossUnsent         LossCode = "unsent"          // events: too many waited, or their catalogue was abandoned
	LossDamaged        LossCode = "damaged"         // the catalogue was damaged; detail: the file that it was moved to
	LossReplaced       LossCode = "replaced"        // the catalogue was removed or replaced; detail: the error
	LossOther          LossCode = "other"           // too many kinds to tell apart
)

// Evidence removed to keep it within its bounds.
const (
	LossTraceFiles   LossCode = "trace_files"   // detail: a RemovedCode
	LossPacketFiles  LossCode = "packet_files"  // detail: a RemovedCode
	LossOldRows      LossCode = "old_rows"      // of the catalogue, by evidence.keep; detail: the table
	LossManyRows     LossCode = "many_rows"     // of the catalogue, by evidence.max_bytes; detail: the table
	LossRepeatProofs LossCode = "repeat_proofs" // proofs, with their hits, that are not the first of their trace
)

// NewLoss makes the document of a loss noticed just now.
func NewLoss(code LossCode, detail string, count uint64) Loss {
	now := time.Now()
	return Loss{
		Timestamp: now,
		Event:     Meta{ID: NewID(), Kind: "event", Action: ActionLoss},
		Culprit:   LossDetail{Code: code, Detail: detail, Count: count},
	}
}
