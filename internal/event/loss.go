package event

import "time"

// Loss says that something was not seen or not kept.
type Loss struct {
	Timestamp time.Time  `json:"@timestamp"`
	Event     Meta       `json:"event"`
	Host      *Host      `json:"host,omitempty"` // in a fleet
	Culprit   LossDetail `json:"culprit"`
	Place                // whose it was, as far as that is known
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
	LossRate       LossCode = "rate"       // hits: nflog.rate was reached; detail: whose, if they were of another network namespace
	LossUnverified LossCode = "unverified" // packets without a DNS question in the rule's domain
	LossCut        LossCode = "cut"        // packets of rules with lists: longer than nflog.snaplen, and nothing listed in what was logged
	LossForeign    LossCode = "foreign"    // packets of no rule of ours, in our NFLOG group
	LossOthers     LossCode = "others"     // packets of other network namespaces: they found no room; detail: whose
	LossUnawaited  LossCode = "unawaited"  // packets: they did not wait for all that was sent before in other network namespaces
	LossSenders    LossCode = "senders"    // packets: what the kernel said of their senders found no room
)

// Other losses.
const (
	LossLookBacks      LossCode = "look_backs"      // look-backs: too many at once, their files could not be written, or the memory had forgotten all of it
	LossFirewall       LossCode = "firewall"        // times that others removed our rules; detail: for how long
	LossKilled         LossCode = "killed"          // times that culprit was killed; detail: the last sign of it
	LossUncompared     LossCode = "uncompared"      // hits and system calls that were not compared
	LossUnrecorded     LossCode = "unrecorded"      // hits, proofs, programs and snapshots: the catalogue was too slow, or failed
	LossUnrecordedEnds LossCode = "unrecorded_ends" // captures and traces: the catalogue failed for too long
	LossUnrecordedCaps LossCode = "unrecorded_pcap" // packet files: likewise
	LossUnsent         LossCode = "unsent"          // events: too many waited, or their catalogue was abandoned
	LossUnwanted       LossCode = "unwanted"        // events: the collector (events.otlp) will never take them
	LossUnsentFleet    LossCode = "unsent_fleet"    // events of the fleet: the same, or one was too long
	LossDamaged        LossCode = "damaged"         // the catalogue was damaged; detail: the file that it was moved to
	LossReplaced       LossCode = "replaced"        // the catalogue was removed or replaced; detail: the error
	LossOther          LossCode = "other"           // too many kinds to tell apart
)

// Evidence removed to keep it within its bounds.
const (
	LossTraceFiles   LossCode = "trace_files"   // detail: a RemovedCode
	LossPacketFiles  LossCode = "packet_files"  // detail: a RemovedCode
	LossExecutables  LossCode = "executables"   // copies; detail: a RemovedCode
	LossOldRows      LossCode = "old_rows"      // of the catalogue, by evidence.keep; detail: the table
	LossManyRows     LossCode = "many_rows"     // of the catalogue, by evidence.max_bytes; detail: the table
	LossRepeatProofs LossCode = "repeat_proofs" // proofs, with their hits, that are not the first of their trace
)

// Losses of the mirror of a fleet.
const (
	LossUnread  LossCode = "unread"  // messages that the stream had forgotten before the mirror read them
	LossUntaken LossCode = "untaken" // documents of a host that the mirror did not take; detail: a RefusedCode
)

// A RefusedCode says why a mirror did not take a document.
type RefusedCode string

// Why a mirror did not take a document. None of these is possible with a culprit that is as it should be.
const (
	RefusedLong    RefusedCode = "long"    // more bytes than any document has
	RefusedJSON    RefusedCode = "json"    // it is none of our documents
	RefusedHost    RefusedCode = "host"    // it says that it is of another host than the one who sent it
	RefusedID      RefusedCode = "id"      // it, or what it names, has no id, or one from the future
	RefusedForged  RefusedCode = "forged"  // no culprit put the message there, or another host did
	RefusedForeign RefusedCode = "foreign" // it has the id of a document of another host, or names one
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
