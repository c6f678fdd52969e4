package metrics

import (
	"io"

	"github.com/prometheus/client_golang/prometheus"
)

// traces counts the bytes of traces.
type traces struct{ written, dropped prometheus.Counter }

func newTraces(r factory) traces {
	return traces{
		written: r.counter("culprit_trace_written_bytes_total", "Bytes written to trace files, before compression."),
		dropped: r.counter("culprit_trace_dropped_bytes_total", "Bytes of strace output that were not kept: capture.trace_bytes was reached, or the disk was full."),
	}
}

// TraceFile counts the bytes written to a trace file.
func (t *traces) TraceFile(f io.WriteCloser) io.WriteCloser { return countedFile{f, t.written} }

// TraceDropped counts the bytes that an ended trace lacks.
func (t *traces) TraceDropped(bytes int64) { t.dropped.Add(float64(bytes)) }

type countedFile struct {
	io.WriteCloser
	written prometheus.Counter
}

func (f countedFile) Write(b []byte) (int, error) {
	n, err := f.WriteCloser.Write(b)
	f.written.Add(float64(n))
	return n, err
}
