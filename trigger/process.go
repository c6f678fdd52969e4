package trigger

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/pattern"
	"culprit/internal/proc"
)

// An Output takes what the listener finds. All calls come from one goroutine. The queue fills
// during a call, so it must not wait for anything slow.
type Output interface {
	// Hit takes each new hit.
	Hit(*event.Hit)
	// Repeated tells how often the packet of a hit was seen within a second, in all, if more
	// than once.
	Repeated(id string, count int)
	// Lost reports, at most once a second, what was not seen or not kept.
	Lost(event.Loss)
}

// processor turns packets into hits. One goroutine owns it.
type processor struct {
	patterns map[string]pattern.Pattern
	decoder  *decoder
	finder   *originFinder
	users    *proc.Users
	limit    *rate.Limiter
	repeats  repeats
	lost     map[event.LossCode]uint64 // since the last report
}

func newProcessor(c *config.Config) (*processor, error) {
	p := &processor{
		decoder: newDecoder(),
		users:   new(proc.Users),
		limit:   rate.NewLimiter(rate.Limit(c.NFLog.Rate), 5*c.NFLog.Rate),
		lost:    map[event.LossCode]uint64{},
	}
	var err error
	if p.patterns, err = patterns(c.Rules); err != nil {
		return nil, err
	}
	p.finder, err = newOriginFinder(proc.Default, p.users)
	return p, err
}

// patterns returns the patterns of the rules by the names of the rules.
func patterns(rules []config.Rule) (map[string]pattern.Pattern, error) {
	all := map[string]pattern.Pattern{}
	for _, r := range rules {
		pat, err := r.Pattern()
		if err != nil {
			return nil, err
		}
		all[r.Name] = pat
	}
	return all, nil
}

func (p *processor) close() { p.finder.close() }

// run works until the context ends and the queue is empty. The timer runs only while there is
// something to report, so that an idle daemon sleeps.
func (p *processor) run(ctx context.Context, l *Listener, out Output) error {
	timer := time.NewTimer(0)
	<-timer.C
	armed := false
	for {
		select {
		case in := <-l.queue:
			p.packet(in, len(l.queue), out)
			if !armed {
				timer.Reset(time.Second)
				armed = true
			}
		case p.patterns = <-l.rules:
		case <-l.turn:
		case now := <-timer.C:
			p.report(l, out)
			armed = p.repeats.expire(now, out.Repeated) > 0
			if armed {
				timer.Reset(time.Second)
			}
		case <-ctx.Done():
			for {
				select {
				case in := <-l.queue:
					p.packet(in, len(l.queue), out)
					continue
				default:
				}
				p.report(l, out)
				p.repeats.expire(time.Now().Add(time.Hour), out.Repeated)
				return nil
			}
		}
	}
}

// packet decides whether a packet is a hit, and passes it on if it is a new one.
func (p *processor) packet(in nflogPacket, backlog int, out Output) {
	pat, known := p.patterns[in.rule]
	if !known {
		p.lost[event.LossForeign]++
		return
	}
	// What cannot be decoded has no addresses and no questions, but the kernel's match still
	// stands.
	pkt, _ := p.decoder.decode(in.data)
	asked := questions(pkt.network.Transport, pkt.payload)
	matched := matching(pat, asked)
	if pat.IsDomain() && matched < 0 && pkt.network.Transport == "udp" {
		asked = append(asked, later(pat, pkt.payload)...)
		matched = matching(pat, asked)
	}
	// If we do not have the whole packet, the kernel's match stands.
	if pat.IsDomain() && matched < 0 && !pkt.truncated {
		p.lost[event.LossUnverified]++
		return
	}
	if p.repeats.seen(repeatKey(in, pkt, asked), in.time) {
		return
	}
	if !p.limit.AllowN(in.time, 1) {
		p.lost[event.LossRate]++
		return
	}
	h := newHit(in, pkt, asked, max(0, matched))
	if in.uid != nil {
		h.User = userOf(in, p.users)
	}
	p.finder.find(h, in, backlog)
	p.repeats.add(repeatKey(in, pkt, asked), h.Event.ID, in.time)
	out.Hit(h)
}

// report reports the losses since the last time.
func (p *processor) report(l *Listener, out Output) {
	p.lost[event.LossKernel] += l.counts.lost.Swap(0)
	p.lost[event.LossOverruns] += l.counts.overruns.Swap(0)
	p.lost[event.LossQueue] += l.counts.queue.Swap(0)
	for code, n := range p.lost {
		if n > 0 {
			out.Lost(event.NewLoss(code, "", n))
		}
	}
	clear(p.lost)
}

// matching returns which question a rule means, or -1 if none: its text may stand
// elsewhere in the packet.
func matching(pat pattern.Pattern, asked []question) int {
	return slices.IndexFunc(asked, func(q question) bool {
		if pat.IsDomain() {
			return pat.Contains(q.Question.Name)
		}
		return pat.Matches(q.wire)
	})
}
