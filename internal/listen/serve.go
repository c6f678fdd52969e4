package listen

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Serve answers on a listener, so many connections at a time, until the context ends. Requests that run then have some patience. If the
// server has a TLSConfig it speaks nothing else. The error says why it ended before; then the context has not. It closes the listener.
func Serve(ctx context.Context, s *http.Server, l net.Listener, connections int, patience time.Duration) error {
	stopped := make(chan struct{})
	runs := context.AfterFunc(ctx, func() {
		defer close(stopped)
		ends, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if s.Shutdown(ends) != nil {
			s.Close()
		}
	})
	serve := s.Serve
	if s.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	err := serve(netutil.LimitListener(l, connections))
	if !runs() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
