package event

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// Before version 4 of the catalogue a reason was a sentence. It is read as the code that it
// meant, so that old evidence can be listed, counted and filtered like new evidence.

// Unknown is the code, of any kind, for a sentence that the tables do not have. Its detail is
// the sentence.
const Unknown = "unknown"

// A sentence is what an older culprit wrote: a pattern whose group, if it has one, is the
// detail.
type sentence struct {
	pattern *regexp.Regexp
	code    string
	detail  string // in place of the group
}

func says[C ~string](pattern string, code C, detail ...string) sentence {
	return sentence{regexp.MustCompile("^(?s:" + pattern + ")$"), string(code), strings.Join(detail, "")}
}

// sentences are those of all reasons but losses. Each has only one meaning.
var sentences = []sentence{
	says(`level (\d+ allows \d+) processes`, UntracedLevel),
	says(`capture\.concurrent allows (\d+) straces at once`, UntracedConcurrent),
	says(`the capture took no more: its time was up`, UntracedEnded, string(EndedTime)),
	says(`the capture took no more: its \d+ processes were used up`, UntracedEnded, string(EndedProcesses)),
	says(`the capture took no more: culprit was stopped`, UntracedEnded, string(EndedStopped)),
	says(`gone before (?:it could be looked at|strace was on it)`, UntracedGone),
	says(`PID 1 is never traced`, UntracedInit),
	says(`a kernel thread`, UntracedKernelThread),
	says(`culprit itself, or a child of it`, UntracedOurs),
	says(`guard\.never_users names the user`, UntracedNeverUsers),
	says(`guard\.never_executables names (.*)`, UntracedNeverExecutables),
	says(`traced by (process .*) already`, UntracedForeign),
	says(`refused: it was just ending, .*`, UntracedRefused),
	says(`no trace file`, UntracedNoFile),
	says(`strace could not be started`, UntracedNotStarted),
	says(`strace was stopped before it was on the process`, UntracedStopped),
	says(`strace ended without a word`, UntracedSilent),
	says(`strace could not attach`, UntracedOther),

	says(`(?:detached: )?its time was up`, EndedTime),
	says(`(?:detached: )?its (\d+) processes were used up`, EndedProcesses),
	says(`(?:detached: )?culprit was stopped`, EndedStopped),
	says(`culprit was killed`, EndedKilled),
	says(`the process ended with status (\d+)`, EndedExited),
	says(`detached: capture\.trace_bytes was reached`, EndedTraceBytes),
	says(`detached: guard\.never_users names the user`, EndedNeverUsers),
	says(`detached: guard\.never_executables names (.*)`, EndedNeverExecutables),
	says(`detached: gone before strace was on it: .*`, EndedNewProcess),
	says(`detached: strace was stopped by a signal, .*`, EndedStraceStopped),
	says(`strace was killed \((.*)\)`, EndedStraceKilled),
	says(`strace ended`, EndedStrace),
	says(`the trace file could not be written: (.*)`, EndedNotWritten),
	says(`its catalogue was damaged`, EndedDamaged),

	says(`culprit is stopping`, NoCaptureStopping),
	says(`the kernel gave no UID`, NoCaptureNoUID),
	says(`(\d+) captures were running, which are as many as there can be`, NoCaptureTooMany),
	says(`only the process itself would be captured, .*`, NoCaptureNoProcess),
	says(`sent by a local resolver, (.*), for the program of another hit`, NoCaptureForwarded),
	says(`sent by a local resolver, (.*); of the program that asked it no packet was seen: .*`, NoCaptureResolver),

	says(`not searched for: too many packets at once`, UnattributedFlood),
	says(`not UDP or TCP`, UnattributedProtocol),
	says(`a fragment without ports`, UnattributedFragment),
	says(`the socket was closed (?:already|meanwhile)(?:; .*)?`, UnattributedClosed),
	says(`nobody holds the socket any more \(inode (\d+)\)(?:; .*)?`, UnattributedNobody),

	says(`it was older than evidence\.keep`, RemovedKeep),
	says(`the evidence was larger than evidence\.max_bytes`, RemovedMaxBytes),
	says(`less than evidence\.min_free was free on the disk`, RemovedMinFree),
}

// lossSentences are the sentences of losses.
var lossSentences = []sentence{
	says(`packets dropped by the kernel: .*`, LossKernel),
	says(`netlink buffer overruns`, LossOverruns),
	says(`packets dropped: nflog\.queue was full`, LossQueue),
	says(`hits dropped: nflog\.rate was reached`, LossRate),
	says(`packets without a DNS question in the rule's domain`, LossUnverified),
	says(`packets of unknown rules: .*`, LossForeign),
	says(`packets of up to (.*) without our firewall rules: .*`, LossFirewall),
	says(`culprit was killed, .*; the last sign of it was at (.*)`, LossKilled),
	says(`hits and system calls not compared with each other: .*`, LossUncompared),
	says(`hits, proofs and programs not recorded: .*`, LossUnrecorded),
	says(`captures and traces not recorded: .*`, LossUnrecordedEnds),
	says(`packet files not recorded: .*`, LossUnrecordedCaps),
	says(`events not sent out: .*`, LossUnsent),
	says(`the catalogue was damaged, its hits and captures are in (.*)`, LossDamaged),
	says(`(.*) while culprit ran, with its hits and captures`, LossReplaced),
	says(`trace files removed: it was older than evidence\.keep`, LossTraceFiles, string(RemovedKeep)),
	says(`trace files removed: the evidence was larger .*`, LossTraceFiles, string(RemovedMaxBytes)),
	says(`trace files removed: less than .*`, LossTraceFiles, string(RemovedMinFree)),
	says(`packet files removed: it was older than evidence\.keep`, LossPacketFiles, string(RemovedKeep)),
	says(`packet files removed: the evidence was larger .*`, LossPacketFiles, string(RemovedMaxBytes)),
	says(`packet files removed: less than .*`, LossPacketFiles, string(RemovedMinFree)),
	says(`(\w+) removed from the catalogue: older than evidence\.keep`, LossOldRows),
	says(`(\w+) removed from the catalogue: it was larger .*`, LossManyRows),
	says(`proofs and their hits removed from the catalogue, .*`, LossRepeatProofs),
	says(`other losses`, LossOther),
}

// parseSentence returns the code and detail that a sentence meant.
func parseSentence(all []sentence, text string) (code, detail string) {
	for _, s := range all {
		m := s.pattern.FindStringSubmatch(text)
		switch {
		case m == nil:
		case s.detail != "" || len(m) == 1:
			return s.code, s.detail
		default:
			return s.code, m[1]
		}
	}
	return Unknown, text
}

// UnmarshalJSON reads a reason, or an older sentence in its place.
func (r *Reason[C]) UnmarshalJSON(b []byte) error {
	if !bytes.HasPrefix(b, []byte{'"'}) {
		type plain Reason[C]
		return json.Unmarshal(b, (*plain)(r))
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	code, detail := parseSentence(sentences, text)
	*r = Reason[C]{C(code), detail}
	return nil
}

// UnmarshalJSON reads counts by code, or by an older sentence.
func (c *MissedCounts) UnmarshalJSON(b []byte) error {
	var by map[string]int
	if err := json.Unmarshal(b, &by); err != nil || by == nil {
		return err
	}
	*c = MissedCounts{}
	for key, n := range by {
		if strings.Contains(key, " ") {
			key, _ = parseSentence(sentences, key)
		}
		(*c)[UntracedCode(key)] += n
	}
	return nil
}

// UnmarshalJSON reads a loss, or an older sentence in its place.
func (d *LossDetail) UnmarshalJSON(b []byte) error {
	type plain LossDetail
	var read struct {
		plain
		What string `json:"what"`
	}
	if err := json.Unmarshal(b, &read); err != nil {
		return err
	}
	*d = LossDetail(read.plain)
	if read.What != "" {
		code, detail := parseSentence(lossSentences, read.What)
		d.Code, d.Detail = LossCode(code), detail
	}
	return nil
}
