package catalogue

import (
	"slices"

	"culprit/internal/event"
)

const (
	mostProven = 1000 // proofs of some lines: a line may have sent many packets
	farParts   = 2000 // lines from the first of a packet that several calls sent to the last of them
)

// ProofsAt returns the proofs of which a line of a trace is from first to last, in the order of their lines, at most
// the first 1000 of them. Of a packet that several calls sent, the last line may be up to 2000 lines behind last.
func (r *Reader) ProofsAt(trace string, first, last int64) (all []event.Proof, err error) {
	const q = `SELECT id, doc FROM proofs WHERE trace = ?1 AND doc ->> '$.culprit.line' BETWEEN ?2 AND ?4
		AND (doc ->> '$.culprit.line' <= ?3 OR doc ->> '$.culprit.parts' IS NOT NULL) ORDER BY doc ->> '$.culprit.line' LIMIT ?5`
	all, err = All(rows(r, q, []any{trace, first, last, last + farParts, mostProven}, fromDocument[event.Proof]))
	shown := func(line int64) bool { return first <= line && line <= last }
	return slices.DeleteFunc(all, func(p event.Proof) bool {
		return !shown(p.Culprit.Line) && !slices.ContainsFunc(p.Culprit.Parts, func(l event.Line) bool { return shown(l.Line) })
	}), err
}

// NearestProofs returns the numbers of the last line before first and the first line after last that sent a packet, alone
// or as the last of several; 0 if there is none.
func (r *Reader) NearestProofs(trace string, first, last int64) (before, after int64, err error) {
	const q = `SELECT coalesce((SELECT doc ->> '$.culprit.line' FROM proofs WHERE trace = ?1 AND doc ->> '$.culprit.line' < ?2 ORDER BY doc ->> '$.culprit.line' DESC LIMIT 1), 0),
		coalesce((SELECT doc ->> '$.culprit.line' FROM proofs WHERE trace = ?1 AND doc ->> '$.culprit.line' > ?3 ORDER BY doc ->> '$.culprit.line' LIMIT 1), 0)`
	for n, err := range rows(r, q, []any{trace, first, last}, func(n *[2]int64, scan func(...any) error) error { return scan(&n[0], &n[1]) }) {
		return n[0], n[1], err
	}
	return 0, 0, nil
}
