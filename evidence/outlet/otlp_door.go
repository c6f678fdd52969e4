package outlet

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"culprit/internal/text"
)

// A door is the http.RoundTripper through which the exporter talks to the collector. It adds the
// headers of a file, and keeps what the collector answered, of which the exporter tells only in words.
type door struct {
	next        *http.Transport
	headersFile string
	answer      answer // to the last request
}

// answer is what the collector said (https://opentelemetry.io/docs/specs/otlp/#otlphttp-response).
type answer struct {
	taken      bool // 2xx
	refused    bool // the request must not be sent again as it is
	rejected   int64
	message    string
	retryAfter time.Duration
}

// Bounds of what a collector may say.
const (
	answerBytes    = 64 << 10
	messageBytes   = 300
	mostRetryAfter = 10 * time.Minute
)

// RoundTrip sends a request.
func (d *door) RoundTrip(request *http.Request) (*http.Response, error) {
	headers, err := d.headers()
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	for name, values := range headers {
		request.Header[name] = values
	}
	response, err := d.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytes))
	response.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	response.Body = io.NopCloser(strings.NewReader(text.Escape(strings.TrimSpace(string(body[:min(len(body), messageBytes)])))))
	d.answer = answer{retryAfter: retryAfter(response.Header.Get("Retry-After"))}
	switch code := response.StatusCode; {
	case code >= 200 && code < 300:
		d.answer.taken = true
		d.answer.rejected, d.answer.message = partial(body)
		response.Body = http.NoBody // the exporter has no need of it
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		d.answer.refused = true
	}
	return response, nil
}

// partial reads how many records the collector did not take. An answer that we cannot read says
// that it took them, as its status does.
func partial(body []byte) (rejected int64, message string) {
	var r collector.ExportLogsServiceResponse
	if proto.Unmarshal(body, &r) != nil {
		return 0, ""
	}
	m := r.GetPartialSuccess().GetErrorMessage()
	return max(r.GetPartialSuccess().GetRejectedLogRecords(), 0), text.Escape(m[:min(len(m), messageBytes)])
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, mostRetryAfter)
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return min(max(time.Until(at), 0), mostRetryAfter)
}

// headers reads the file of headers.
func (d *door) headers() (http.Header, error) {
	if d.headersFile == "" {
		return nil, nil
	}
	f, err := os.Open(d.headersFile)
	if err != nil {
		return nil, fmt.Errorf("events.otlp.headers_file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("events.otlp.headers_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("events.otlp.headers_file: others can read or write %s: chmod 600 it", d.headersFile)
	}
	lines, err := io.ReadAll(io.LimitReader(f, answerBytes))
	if err != nil {
		return nil, fmt.Errorf("events.otlp.headers_file: %w", err)
	}
	h := http.Header{}
	number := 0
	for line := range bytes.Lines(lines) {
		number++
		line := strings.TrimSpace(string(line))
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("events.otlp.headers_file: line %d of %s is not \"Name: value\"", number, d.headersFile)
		}
		h[textproto.CanonicalMIMEHeaderKey(name)] = []string{strings.TrimSpace(value)}
	}
	return h, nil
}
