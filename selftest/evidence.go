package selftest

import (
	"iter"

	"culprit/evidence/catalogue"
	"culprit/internal/event"
)

// read reads all the evidence again.
func (h *hunt) read(dir string) error {
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if h.hits, err = all(r.Hits(catalogue.Filter{})); err != nil {
		return err
	}
	if h.traces, err = all(r.Traces(catalogue.Filter{})); err != nil {
		return err
	}
	if h.proofs, err = all(r.Proofs(catalogue.Filter{})); err != nil {
		return err
	}
	h.losses, err = all(r.Losses(catalogue.Filter{}))
	return err
}

func all[T any](documents iter.Seq2[T, error]) (got []T, err error) {
	for v, err := range documents {
		if err != nil {
			return got, err
		}
		got = append(got, v)
	}
	return got, nil
}

// hit returns the hit of a query.
func (h *hunt) hit(q sentQuery) *event.Hit {
	for i := range h.hits {
		hit := &h.hits[i]
		if hit.DNS == nil || hit.Network.Type != q.family || hit.Network.Transport != q.transport {
			continue
		}
		if _, label, ok := parseName(hit.DNS.Question.Name); ok && label == q.label {
			return hit
		}
	}
	return nil
}

// proof returns the first proof of a hit.
func (h *hunt) proof(hit *event.Hit) *event.Proof {
	for i := range h.proofs {
		if h.proofs[i].Culprit.Hit.ID == hit.Event.ID {
			return &h.proofs[i]
		}
	}
	return nil
}
