package outlet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
)

// OTLPOptions say how to reach a collector of OpenTelemetry. They have the meaning of the
// variables OTEL_EXPORTER_OTLP_* of the same names.
type OTLPOptions struct {
	Endpoint    string        // https://… of the logs, with its path
	HeadersFile string        // lines "Name: value", read again for each request; empty: none
	CA          string        // certificates in PEM of who may have signed the collector's; empty: the system's
	Cert, Key   string        // our own certificate in PEM, read again for each connection; empty: none
	Plain       bool          // without gzip
	Timeout     time.Duration // of a request
	Version     string        // of culprit
	// Body makes the line that becomes the body of a record of an event; nil: the event itself.
	Body func(line string) string
}

// An OTLP sends each event to a collector of OpenTelemetry as a record of a log, by OTLP over
// HTTP. It uses the exporter of the SDK, but none of its processors, which drop what they cannot
// send. An event is taken when the collector has said so.
//
// If the answer to a request is lost, OTLP does not tell whether the collector took it: it is sent
// again, and each record has the same "log.record.uid" as before.
type OTLP struct {
	options  OTLPOptions
	exporter *otlploghttp.Exporter
	door     *door
	maker    *recordMaker

	taken     uint64
	resume    time.Time // the collector asked to be left alone until then
	onRefused func(events int64, why string)
}

// OpenOTLP fails if a file cannot be read. It does not talk to the collector.
func OpenOTLP(o OTLPOptions) (*OTLP, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // no variable of the environment says where events go
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("events.otlp.ca: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("events.otlp.ca: %s has no certificate in PEM", o.CA)
		}
	}
	if o.Cert != "" {
		own := func() (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.Cert, o.Key)
			if err != nil {
				return nil, fmt.Errorf("events.otlp.cert and key: %w", err)
			}
			return &c, nil
		}
		if _, err := own(); err != nil {
			return nil, err
		}
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() }
	}
	d := &door{next: transport, headersFile: o.HeadersFile}
	if _, err := d.headers(); err != nil {
		return nil, err
	}
	compression := otlploghttp.GzipCompression
	if o.Plain {
		compression = otlploghttp.NoCompression
	}
	// Each option is given, so that no variable of the environment counts.
	exporter, err := otlploghttp.New(context.Background(),
		otlploghttp.WithEndpointURL(o.Endpoint),
		otlploghttp.WithCompression(compression),
		otlploghttp.WithTimeout(o.Timeout),
		otlploghttp.WithHeaders(map[string]string{"User-Agent": "culprit/" + o.Version}),
		otlploghttp.WithTLSClientConfig(nil),
		otlploghttp.WithRetry(otlploghttp.RetryConfig{}), // the Sender does
		otlploghttp.WithHTTPClient(&http.Client{
			Transport: d, Timeout: o.Timeout,
			// It would send the headers to others.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("events.otlp: %w", err)
	}
	return &OTLP{
		options: o, exporter: exporter, door: d, maker: newRecordMaker(o.Version, o.Body), onRefused: func(int64, string) {},
	}, nil
}

// OnRefused makes f known, see [Refuser].
func (o *OTLP) OnRefused(f func(events int64, why string)) { o.onRefused = f }

// mostAlone is how many events in a row may be refused one by one before the collector takes any:
// then it is not the events that are wrong.
const mostAlone = 8

// Send sends events. Those that the collector refuses for good are found by halving, and given up
// if it takes others of them. If it takes none, they wait.
func (o *OTLP) Send(ctx context.Context, events []Event) error {
	if err := o.wait(ctx); err != nil || len(events) == 0 {
		return err
	}
	s := sending{o: o, ctx: ctx}
	err := s.send(events)
	if err == nil && len(s.refused) > 0 {
		err = s.why
	}
	if err != nil {
		return fmt.Errorf("events.otlp %s: %w", o.options.Endpoint, err)
	}
	return nil
}

// wait waits until the collector wants to be asked again.
func (o *OTLP) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Until(o.resume))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Taken returns the last event that the collector took, or that was given up.
func (o *OTLP) Taken() uint64 { return o.taken }

// Close closes the connections.
func (o *OTLP) Close(ctx context.Context) error {
	o.door.next.CloseIdleConnections()
	return o.exporter.Shutdown(ctx)
}

// sending is one Send.
type sending struct {
	o        *OTLP
	ctx      context.Context
	accepted bool    // the collector took one of the events
	refused  []Event // one by one, while it took none
	why      error
}

// send sends events, in halves if they are refused together.
func (s *sending) send(events []Event) error {
	err := s.export(events)
	var no refusal
	switch {
	case err == nil:
		s.giveUp()
		s.accepted = true
		s.o.taken = events[len(events)-1].Sequence
		return nil
	case !errors.As(err, &no):
		return err
	case len(events) > 1:
		half := len(events) / 2
		if err := s.send(events[:half]); err != nil {
			return err
		}
		return s.send(events[half:])
	}
	s.refused, s.why = append(s.refused, events[0]), err
	if s.accepted {
		s.giveUp()
		return nil
	}
	if len(s.refused) >= mostAlone {
		return err
	}
	return nil
}

// giveUp counts the events that were refused as lost.
func (s *sending) giveUp() {
	if len(s.refused) == 0 {
		return
	}
	s.o.lose(s.refused, int64(len(s.refused)), s.why.Error())
	s.o.taken = s.refused[len(s.refused)-1].Sequence
	s.refused = nil
}

// lose tells of events that the collector will never take. That such a loss was refused itself is
// not told again and again.
func (o *OTLP) lose(among []Event, n int64, why string) {
	for _, e := range among {
		if !isRefusal(e.Line) {
			o.onRefused(min(n, int64(len(among))), why)
			return
		}
	}
}

// export sends events in one request.
func (s *sending) export(events []Event) error {
	o := s.o
	records := make([]sdklog.Record, 0, len(events))
	for _, e := range events {
		records = append(records, o.maker.record(e))
	}
	o.door.answer = answer{}
	err := o.exporter.Export(s.ctx, records)
	a := o.door.answer
	o.resume = time.Now().Add(a.retryAfter)
	switch {
	case a.taken && a.rejected > 0:
		o.lose(events, a.rejected, "partial success: "+a.message)
		return nil
	case a.taken: // err may hold a warning
		return nil
	case a.refused:
		return refusal{err}
	case err == nil:
		err = errors.New("no answer") // cannot be
	}
	return err
}

// A refusal is the answer that a request must not be sent again as it is.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }
