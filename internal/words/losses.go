package words

import (
	"fmt"
	"strings"

	"culprit/internal/event"
)

// Lost says what was lost, and how much.
func Lost(d event.LossDetail) string {
	what := Loss(d)
	switch d.Code {
	case event.LossFirewall, event.LossKilled, event.LossReplaced, event.LossDamaged:
		if d.Count == 1 {
			return what
		}
		return fmt.Sprintf("%d times: %s", d.Count, what)
	}
	if d.Count == 1 {
		for i := range singular {
			if rest, is := strings.CutPrefix(what, singular[i].many); is && (rest == "" || rest[0] == ' ') {
				return "1 " + singular[i].one + rest
			}
		}
	}
	return fmt.Sprintf("%d %s", d.Count, what)
}

// singular holds beginnings of what [Loss] returns, with the same for one thing; longer ones
// first.
var singular = []struct{ many, one string }{
	{"hits, proofs, programs and snapshots", "hit, proof, program or snapshot"},
	{"hits and system calls", "hit or system call"},
	{"later proofs of a trace, and their hits,", "later proof of a trace, or its hit,"},
	{"captures and traces", "capture or trace"},
	{"netlink buffer overruns", "netlink buffer overrun"},
	{"copies of executables", "copy of an executable"},
	{"packet files", "packet file"},
	{"trace files", "trace file"},
	{"other losses", "other loss"},
	{"snapshots", "snapshot"},
	{"packets", "packet"},
	{"hits", "hit"},
	{"proofs", "proof"},
	{"programs", "program"},
	{"captures", "capture"},
	{"traces", "trace"},
	{"losses", "loss"},
	{"events", "event"},
}

// Loss says what was lost, to follow a number.
func Loss(d event.LossDetail) string {
	switch d.Code {
	case event.LossFirewall:
		return "packets missed for up to " + d.Detail + " without our firewall rules: others changed the firewall"
	case event.LossKilled:
		return Killed(d.Detail)
	case event.LossReplaced:
		return d.Detail + " while culprit ran, with its hits and captures"
	case event.LossDamaged:
		return "the catalogue was damaged: its hits and captures are in " + d.Detail
	case event.LossTraceFiles, event.LossPacketFiles, event.LossExecutables:
		return withDetail(losses[d.Code], Removed(event.Removed{Code: event.RemovedCode(d.Detail)}))
	case event.LossUntaken:
		return withDetail(losses[d.Code], refused[event.RefusedCode(d.Detail)])
	case event.LossOldRows:
		return d.Detail + " removed from the catalogue: older than evidence.keep"
	case event.LossManyRows:
		return d.Detail + " removed from the catalogue: it was larger than half of evidence.max_bytes"
	}
	return say(losses, event.Reason[event.LossCode]{Code: d.Code, Detail: d.Detail})
}

// Killed says that an earlier culprit did not end in good order, and when it last gave a sign
// of life.
func Killed(last string) string {
	return "culprit was killed, or the machine went down: nothing was watched until this start; the last sign of life was at " + last
}

var losses = map[event.LossCode]string{
	event.LossKernel:         "packets dropped by the kernel: the netlink buffer was full",
	event.LossOverruns:       "netlink buffer overruns",
	event.LossQueue:          "packets dropped: nflog.queue was full",
	event.LossRate:           "hits dropped: nflog.rate was reached",
	event.LossUnverified:     "packets without a DNS question in the rule's domain",
	event.LossCut:            "packets longer than nflog.snaplen, of a rule with lists: names behind that were not looked up",
	event.LossForeign:        "packets of unknown rules: somebody else logs to our nflog.group",
	event.LossOthers:         "packets of another network namespace dropped: more at once than its share of their buffer",
	event.LossUnawaited:      "packets that did not wait for all that other network namespaces had sent before: a forwarder among their senders is told as any sender",
	event.LossSenders:        "packets whose senders the kernel named, but not in time: more at once than its buffer holds; their origins were looked up afterwards",
	event.LossLookBacks:      "look-backs not written: too many at once, no room on the disk, or the memory had forgotten all of it",
	event.LossUncompared:     "hits and system calls not compared: too long, or too many at once; culprit prove can compare them",
	event.LossUnrecorded:     "hits, proofs, programs and snapshots not recorded: the catalogue could not be written, or not fast enough",
	event.LossUnrecordedEnds: "captures and traces not recorded: the catalogue could not be written for too long",
	event.LossUnrecordedCaps: "packet files not recorded: the catalogue could not be written for too long",
	event.LossUnsent:         "events not sent out: more than 128 MiB waited, or their catalogue was set aside",
	event.LossUnwanted:       "events refused by the collector for good: the log has its reason",
	event.LossUnsentFleet:    "events not sent to the fleet: more than fleet.max_waiting waited, their catalogue was set aside, or the servers take none of that length",
	event.LossTraceFiles:     "trace files removed",
	event.LossPacketFiles:    "packet files removed",
	event.LossExecutables:    "copies of executables removed",
	event.LossRepeatProofs:   "later proofs of a trace, and their hits, removed from the catalogue: it was larger than half of evidence.max_bytes",
	event.LossOther:          "other losses",
	event.LossUnread:         "messages of the fleet not read: the stream had removed them before this mirror came to them",
	event.LossUntaken:        "documents of a host not taken",
}

var refused = map[event.RefusedCode]string{
	event.RefusedLong:    "longer than any document of culprit",
	event.RefusedJSON:    "not a document of culprit",
	event.RefusedHost:    "they say that they are of another host",
	event.RefusedID:      "an id that culprit does not give, or from the future",
	event.RefusedForged:  "put into the stream by somebody else than the host that it is of",
	event.RefusedForeign: "the id is of a document of another host",
}
