package words

import "culprit/internal/event"

// Loss says what was lost, to stand behind a number.
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
	case event.LossTraceFiles, event.LossPacketFiles:
		return with(losses[d.Code], Removed(event.Removed{Code: event.RemovedCode(d.Detail)}))
	case event.LossOldRows:
		return d.Detail + " removed from the catalogue: older than evidence.keep"
	case event.LossManyRows:
		return d.Detail + " removed from the catalogue: it was larger than half of evidence.max_bytes"
	}
	return say(losses, event.Reason[event.LossCode]{Code: d.Code, Detail: d.Detail})
}

// Killed says that an earlier culprit did not end in good order. The last sign of it was at
// that time.
func Killed(last string) string {
	return "culprit was killed, or the machine went down: nothing was watched until this start; the last sign of life was at " + last
}

var losses = map[event.LossCode]string{
	event.LossKernel:         "packets dropped by the kernel: the netlink buffer was full",
	event.LossOverruns:       "netlink buffer overruns",
	event.LossQueue:          "packets dropped: nflog.queue was full",
	event.LossRate:           "hits dropped: nflog.rate was reached",
	event.LossUnverified:     "packets without a DNS question in the rule's domain",
	event.LossForeign:        "packets of unknown rules: somebody else logs to our nflog.group",
	event.LossUncompared:     "hits and system calls not compared: they were too long, or too many at once; culprit prove can compare them",
	event.LossUnrecorded:     "hits, proofs and programs not recorded: the catalogue could not be written, or not fast enough",
	event.LossUnrecordedEnds: "captures and traces not recorded: the catalogue could not be written for too long",
	event.LossUnrecordedCaps: "packet files not recorded: the catalogue could not be written for too long",
	event.LossUnsent:         "events not sent out: more than 128 MiB waited, or their catalogue was set aside",
	event.LossTraceFiles:     "trace files removed",
	event.LossPacketFiles:    "packet files removed",
	event.LossRepeatProofs:   "later proofs of a trace, and their hits, removed from the catalogue: it was larger than half of evidence.max_bytes",
	event.LossOther:          "other losses",
}
