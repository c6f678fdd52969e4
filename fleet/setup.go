package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A Plan says how the streams and buckets of a fleet are made. Those that are there are kept as they are.
type Plan struct {
	Replicas int
	MaxBytes int64         // of the stream of events
	MaxAge   time.Duration // of an event in it
	// DiscardNew: when the stream is full, hosts keep what is new. Otherwise the oldest events go.
	DiscardNew  bool
	BundleBytes int64 // of the bundles of each host
	Hosts       []string
}

// Made says what Set up found or made.
type Made struct {
	Name string
	New  bool
	// Differs are the settings of what was there that are not as planned.
	Differs []string
}

// other sizes of what a fleet keeps.
const (
	listsBytes   = 1 << 30
	requestsAge  = 7 * 24 * time.Hour
	hostBytes    = 256 << 10
	setBytes     = 1 << 20
	dedupeWindow = 2 * time.Minute
)

// Setup makes what a fleet needs on its servers. It needs the rights of an operator.
func (c *Conn) Setup(ctx context.Context, p Plan) (all []Made, err error) {
	for _, stream := range c.streams(p) {
		made, err := c.stream(ctx, stream)
		if err != nil {
			return all, err
		}
		all = append(all, made)
	}
	for _, host := range p.Hosts {
		name := string(c.Name.Requests()) + " for " + host
		isNew, err := c.consumer(ctx, host)
		if err != nil {
			return all, fmt.Errorf("make %s: %w", name, explained(err))
		}
		all = append(all, Made{Name: name, New: isNew})
	}
	return all, nil
}

// consumer makes that of a host for the requests of its bundles, so that it can read no others.
func (c *Conn) consumer(ctx context.Context, host string) (isNew bool, err error) {
	stream := c.Name.Requests().Stream()
	if _, err := c.JS.Consumer(ctx, stream, Token(host)); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, err
	}
	_, err = c.JS.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: Token(host), FilterSubject: c.Name.Requests().Subject(RequestKey(host, ">")),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxDeliver: -1, MaxAckPending: 1000,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	})
	return true, err
}

// streams are all that a fleet needs. Buckets are streams, too (ADR-8 and ADR-20 of NATS): as such all are made alike.
func (c *Conn) streams(p Plan) []jetstream.StreamConfig {
	base := func(name, description string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: description, Subjects: subjects, Storage: jetstream.FileStorage, Replicas: p.Replicas,
			AllowDirect: true, DenyDelete: true, Duplicates: dedupeWindow, MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1,
		}
	}
	events := base(c.Name.Stream(), "events of all hosts of the fleet "+string(c.Name), c.Name.Subjects())
	events.MaxBytes, events.MaxAge, events.Compression = p.MaxBytes, p.MaxAge, jetstream.S2Compression
	if p.DiscardNew {
		events.Discard = jetstream.DiscardNew
	}
	// Without rollups: who writes one key could remove all others with one.
	bucket := func(b Bucket, description string, most int32) jetstream.StreamConfig {
		s := base(b.Stream(), description, b.Subject(">"))
		s.MaxMsgsPerSubject, s.MaxMsgSize, s.Discard = 1, most, jetstream.DiscardNew
		return s
	}
	store := func(name, description string, most int64) jetstream.StreamConfig {
		s := base("OBJ_"+name, description, "$O."+name+".C.>", "$O."+name+".M.>")
		s.MaxBytes, s.AllowRollup, s.Discard, s.DenyDelete = most, true, jetstream.DiscardNew, false
		return s
	}
	signed := bucket(c.Name.Sets(), "signed sets of rules and lists", setBytes)
	signed.AllowRollup = true // only operators write it
	requests := bucket(c.Name.Requests(), "captures whose bundles somebody asks for", 4<<10)
	requests.MaxAge = requestsAge
	all := []jetstream.StreamConfig{
		events,
		bucket(c.Name.Hosts(), "what the hosts say of themselves", hostBytes),
		signed,
		store(c.Name.Lists(), "the lists of the sets", listsBytes),
		requests,
	}
	for _, host := range p.Hosts {
		all = append(all, store(c.Name.Bundles(host), "bundles of "+host, p.BundleBytes))
	}
	return all
}

// stream makes a stream, or compares the one that is there.
func (c *Conn) stream(ctx context.Context, want jetstream.StreamConfig) (Made, error) {
	made := Made{Name: want.Name}
	there, err := c.JS.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		made.New = true
		_, err = c.JS.CreateStream(ctx, want)
	}
	if err != nil {
		return made, fmt.Errorf("make the stream %s: %w", want.Name, explained(err))
	}
	if there != nil && !made.New {
		made.Differs = differences(there.CachedInfo().Config, want)
	}
	return made, nil
}

func differences(is, want jetstream.StreamConfig) (all []string) {
	is.Subjects, want.Subjects = slices.Sorted(slices.Values(is.Subjects)), slices.Sorted(slices.Values(want.Subjects))
	for _, d := range []struct {
		name     string
		is, want any
	}{
		{"subjects", strings.Join(is.Subjects, " "), strings.Join(want.Subjects, " ")},
		{"replicas", is.Replicas, want.Replicas},
		{"max_bytes", is.MaxBytes, want.MaxBytes},
		{"max_age", is.MaxAge, want.MaxAge},
		{"discard", is.Discard, want.Discard},
		{"allow_direct", is.AllowDirect, want.AllowDirect},
		{"storage", is.Storage, want.Storage},
		{"max_msgs_per_subject", is.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
	} {
		if d.is != d.want {
			all = append(all, fmt.Sprintf("%s is %v, not %v", d.name, d.is, d.want))
		}
	}
	return all
}

// Handover lets another machine go on under the name of a host that has been replaced. It needs the rights of an operator.
func (c *Conn) Handover(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := c.JS.Publish(ctx, c.Name.Subject(host), nil, jetstream.WithExpectStream(c.Name.Stream())); err != nil {
		return fmt.Errorf("hand over the name %s: %w", host, withoutStream(err))
	}
	return nil
}
