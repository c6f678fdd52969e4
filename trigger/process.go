package trigger

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/sensor"
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
	// Looked tells, at most once a second, what a rule with a list made of the questions that it was asked.
	Looked(rule string, n Looked)
	// LetGo is told of each process that the kernel stopped (see [event.Hit.Hold]) at a packet
	// that is no new hit.
	LetGo(hold uint64)
}

// Looked counts the packets that were looked up in a list: without a filter in the kernel these are all that have the
// protocols and ports of the rule.
type Looked struct{ Hits, Misses uint64 }

// Senders tell what the kernel saw of the sender of a packet, a [sensor.Sends].
type Senders interface {
	Of(sensor.Packet) (sensor.Send, sensor.Outcome)
	// Lost returns for how many packets that was lost, since the last call.
	Lost() uint64
}

// noSenders saw nobody.
type noSenders struct{}

func (noSenders) Of(sensor.Packet) (sensor.Send, sensor.Outcome) { return sensor.Send{}, sensor.Unseen }
func (noSenders) Lost() uint64                                   { return 0 }

// processor turns packets into hits. One goroutine owns it.
type processor struct {
	rules      map[string]*Rule
	decoder    *decoder
	senders    Senders
	others     Others
	fromOthers <-chan nflogPacket
	othersEnd  <-chan struct{} // see [Listener.readOthers]
	awaited    bool            // the end of what catchUp waits for has not come yet
	catchUpFor time.Duration   // how long it waits
	namespaces *namespaces
	finder     *originFinder
	users      *proc.Users
	limit      *rate.Limiter
	shares     *shares // of other network namespaces: a flood there must not hide our own hits
	holders    holders
	repeats    repeats
	lost       map[event.LossCode]uint64 // since the last report
	looked     map[string]Looked         // likewise
}

func newProcessor(c *config.Config, senders Senders) (*processor, error) {
	if senders == nil {
		senders = noSenders{}
	}
	p := &processor{
		senders: senders,
		others:  noOthers{}, catchUpFor: maxCatchUpFor,
		decoder: newDecoder(),
		users:   new(proc.Users),
		limit:   rate.NewLimiter(rate.Limit(c.NFLog.Rate), 5*c.NFLog.Rate),
		shares:  newShares(c.NFLog.Rate),
		holders: newHolders(),
		lost:    map[event.LossCode]uint64{},
		looked:  map[string]Looked{},
	}
	var err error
	p.finder, err = newOriginFinder(proc.Default, p.users)
	return p, err
}

func (p *processor) close() { p.finder.close() }

// run works until the context ends and the queue is empty. The timer runs only while there is
// something to report, so that an idle daemon sleeps.
func (p *processor) run(ctx context.Context, l *Listener, out Output) error {
	report := func() {
		p.lost[event.LossKernel] += l.lost()
		p.report(l, out)
	}
	timer := time.NewTimer(0)
	<-timer.C
	armed := false
	arm := func() {
		if !armed {
			timer.Reset(time.Second)
			armed = true
		}
	}
	for {
		select {
		case in := <-l.queue:
			p.packet(in, len(l.queue), out)
			arm()
		case in := <-l.others:
			p.other(in, out)
			arm()
		case p.rules = <-l.rules:
		case <-l.turn:
		case now := <-timer.C:
			report()
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
				report()
				p.repeats.expire(time.Now().Add(time.Hour), out.Repeated)
				return nil
			}
		}
	}
}

// packet decides whether a packet is a hit, and passes it on if it is a new one.
func (p *processor) packet(in nflogPacket, backlog int, out Output) {
	rule := p.rules[in.rule]
	if rule == nil {
		p.lost[event.LossForeign]++
		return
	}
	var sent sensor.Send
	seen := sensor.Unseen
	if !rule.Unsensed {
		sent, seen = p.senders.Of(sensor.Packet{Received: in.time, Seq: in.seq, Data: in.data})
	}
	var sender proc.ID
	if seen == sensor.Seen && sent.Certain() {
		sender = sent.Process
	}
	h := p.hit(in, rule, sender)
	if h == nil {
		if sent.Hold != 0 {
			out.LetGo(sent.Hold)
		}
		return
	}
	h.Hold = sent.Hold
	if seen != sensor.Seen || !p.finder.saw(h, sent, backlog) {
		p.finder.find(h, in, backlog)
	}
	if backlog <= busyBacklog {
		p.catchUp(out)
	} else if p.othersEnd != nil {
		p.lost[event.LossUnawaited]++
	}
	out.Hit(h)
}

// hit makes the hit of a packet, or returns nil if it is none or no new one. sender is zero if it is not
// known.
func (p *processor) hit(in nflogPacket, rule *Rule, sender proc.ID) *event.Hit {
	// What cannot be decoded has no addresses and no questions, but the kernel's match still
	// stands.
	pkt, _ := p.decoder.decode(in.data)
	asked := questions(pkt.network.Transport, pkt.payload)
	matched := rule.matching(asked)
	if rule.exact() && matched < 0 {
		asked = append(asked, rule.later(pkt.network.Transport, pkt.payload)...)
		matched = rule.matching(asked)
	}
	switch {
	case rule.List != nil:
		if !p.look(rule.Name, matched >= 0) {
			if pkt.truncated {
				p.lost[event.LossCut]++
			}
			return nil
		}
	case rule.exact() && matched < 0 && !pkt.truncated:
		// If we do not have the whole packet, the kernel's match stands.
		p.lost[event.LossUnverified]++
		return nil
	}
	if p.repeats.seen(repeatKey(in, pkt, asked, sender), in.time) {
		return nil
	}
	switch {
	case in.other != nil:
		if !p.shares.allow(in.from, in.time) {
			p.shares.lose(event.LossRate, in.from, 1)
			return nil
		}
	case !p.limit.AllowN(in.time, 1):
		p.lost[event.LossRate]++
		return nil
	}
	h := newHit(in, pkt, asked, max(0, matched))
	h.Rule = rule.named()
	if matched >= 0 {
		rule.name(h, asked[matched])
	}
	if in.uid != nil {
		h.User = userOf(in, p.users)
	}
	p.repeats.add(repeatKey(in, pkt, asked, sender), h.Event.ID, in.time)
	return h
}

// report reports the losses since the last time.
func (p *processor) report(l *Listener, out Output) {
	p.lost[event.LossOverruns] += l.counts.overruns.Swap(0)
	p.lost[event.LossQueue] += l.counts.queue.Swap(0)
	p.lost[event.LossSenders] += p.senders.Lost()
	for _, l := range p.others.Lost() {
		p.shares.lose(event.LossOthers, l.From, l.Count)
	}
	p.shares.report(p.place, out)
	for code, n := range p.lost {
		if n > 0 {
			out.Lost(event.NewLoss(code, "", n))
		}
	}
	clear(p.lost)
	for rule, n := range p.looked {
		out.Looked(rule, n)
	}
	clear(p.looked)
}

// look counts a packet that was looked up in a list, and returns whether it is a hit.
func (p *processor) look(rule string, hit bool) bool {
	n := p.looked[rule]
	if hit {
		n.Hits++
	} else {
		n.Misses++
	}
	p.looked[rule] = n
	return hit
}
