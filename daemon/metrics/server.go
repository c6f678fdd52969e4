package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"culprit/internal/listen"
)

// Limits for readers: they are few, and their requests are small. A slow reader is cut off.
const (
	maxConnections = 16
	maxScrapes     = 4
	requestTimeout = 5 * time.Second
	answerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeader      = 16 << 10
	stopTimeout    = time.Second
)

// Serve serves /metrics and /healthz, which says whether the loops turn, until the context
// ends. It closes the listener. It gathers a whole answer before it sends any of it, so a slow
// reader delays nobody.
func (m *Metrics) Serve(ctx context.Context, l net.Listener, log *slog.Logger, loops ...Loop) {
	h := newHealth(loops, func(loop string, at time.Time) {
		m.turned.WithLabelValues(loop).Set(float64(at.UnixNano()) / 1e9)
	})
	turning := make(chan struct{})
	go func() {
		defer close(turning)
		h.run(ctx)
	}()
	defer func() { <-turning }()

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, DisableCompression: true}))
	mux.Handle("GET /healthz", h)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "culprit: /metrics, /healthz") })
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if err := listen.Serve(ctx, server, l, maxConnections, stopTimeout); err != nil {
		log.Error("the metrics cannot be read any more: restart culprit when it is idle", "error", err)
		<-ctx.Done()
	}
}
