package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A request is what the child is told on its standard input.
type request struct {
	URL      string
	Agent    string
	Tag      string // ETag of the file that is there, and its Last-Modified: empty if there is none
	Modified string
	CA       []byte // certificates in PEM beside the system's
	MaxBytes int64
	Timeout  time.Duration
}

// A reply is the first line on its standard output. The list follows. It is whole if the child ends with status 0.
type reply struct {
	Unchanged bool `json:",omitempty"`
	Tag       string
	Modified  string
}

// maxRequest and maxReply bound both, in bytes.
const (
	maxRequest = 1 << 20
	maxReply   = 16 << 10
)

// Child is the process that talks to the network: it reads what to get, and writes it. It trusts the server with nothing
// but the bytes of the list, and has no right to anything but its two pipes.
func Child(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := harden(); err != nil {
		return err
	}
	var r request
	if err := json.NewDecoder(io.LimitReader(in, maxRequest)).Decode(&r); err != nil {
		return fmt.Errorf("read what to fetch: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	err := r.get(ctx, out)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("it took longer than %s", r.Timeout)
	}
	return err
}

func (r *request) get(ctx context.Context, out io.Writer) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return err
	}
	ask.Header.Set("User-Agent", r.Agent)
	if r.Tag != "" {
		ask.Header.Set("If-None-Match", r.Tag)
	}
	if r.Modified != "" {
		ask.Header.Set("If-Modified-Since", r.Modified)
	}
	answer, err := client.Do(ask)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	head := reply{Tag: answer.Header.Get("ETag"), Modified: answer.Header.Get("Last-Modified")}
	switch {
	case answer.StatusCode == http.StatusNotModified && r.Tag+r.Modified != "":
		head.Unchanged = true
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("the server says %s", answer.Status)
	case answer.ContentLength > r.MaxBytes:
		return fmt.Errorf("it has %d bytes: max_bytes allows %d", answer.ContentLength, r.MaxBytes)
	}
	if err := json.NewEncoder(out).Encode(head); err != nil || head.Unchanged {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(answer.Body, r.MaxBytes+1))
	if err == nil {
		// When the time is over the client says goodbye to the server, which may end the body properly as long as the
		// connection is not closed: what came is not whole.
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if n > r.MaxBytes {
		return fmt.Errorf("it has more bytes than the %d that max_bytes allows", r.MaxBytes)
	}
	return nil
}

func (r *request) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(r.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(r.CA) {
			return nil, errors.New("lists.ca has no certificate in PEM")
		}
		config.RootCAs = pool
	}
	const maxHeader = 64 << 10
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			const most = 10
			switch {
			case to.URL.Scheme != "https":
				return fmt.Errorf("it is redirected to %s, which is not HTTPS", to.URL.Redacted())
			case len(via) >= most:
				return fmt.Errorf("it is redirected more than %d times", most)
			}
			return nil
		},
	}, nil
}
