// Package serve shows the evidence to browsers: culprit serve. It only reads, and starts nothing.
//
// Its pages are made by html/template and need no script to be read; page.js adds hits as they come and
// keys. Each page opens the catalogue anew and is whole before its first byte is sent: no reader, however
// slow, holds up the catalogue, and a catalogue that was replaced is found at the next page.
package serve

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"time"

	"culprit/evidence/view"
	"culprit/internal/listen"
)

// Bounds for browsers.
const (
	maxConnections = 64
	maxLive        = 24 // pages that are told of new hits
	maxPages       = 4  // made at once; others wait
	maxSpooled     = 2  // large files that are made and sent at once
	maxHeader      = 16 << 10
	pageTimeout    = 10 * time.Second // to make a page, and again to send it
	requestTimeout = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	stallTimeout   = 30 * time.Second // a download goes on while its reader takes something
	stopTimeout    = time.Second
)

//go:embed web
var web embed.FS

// A Server shows the evidence in one directory.
type Server struct {
	dir      string
	door     Door
	layout   *template.Template
	making   chan struct{} // has an item for each page that is being made
	live     chan struct{} // … for each reader of new hits
	spooling chan struct{} // … for each large file that is sent
	readers  chan struct{} // … for each trace that is read
	traces   *view.Indexes
	log      *slog.Logger
	stop     <-chan struct{} // closed when the server stops; nil before it runs
}

// New makes a server of the evidence in dir.
func New(dir string, door Door, log *slog.Logger) (*Server, error) {
	layout, err := template.ParseFS(web, "web/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the layout of the pages: %w", err)
	}
	return &Server{
		dir: dir, door: door, layout: layout, making: make(chan struct{}, maxPages), live: make(chan struct{}, maxLive), spooling: make(chan struct{}, maxSpooled),
		readers: make(chan struct{}, maxReading), traces: view.NewIndexes(keptIndexes), log: log,
	}, nil
}

// Serve answers until the context ends, and closes the listener. If its door has TLS it speaks nothing else.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.stop = ctx.Done()
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, WriteTimeout: 2 * pageTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if secure := s.door.Secure; secure != nil {
		server.TLSConfig = secure.config()
	}
	if err := listen.Serve(ctx, server, l, maxConnections, stopTimeout); err != nil {
		return fmt.Errorf("serve the evidence: %w", err)
	}
	return nil
}

// handler knows the addresses of all pages.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.hits)
	mux.HandleFunc("GET /hits/{id}", s.hit)
	mux.HandleFunc("GET /captures", s.captures)
	mux.HandleFunc("GET /captures/{id}", s.capture)
	mux.HandleFunc("GET /captures/{id}/grep", s.grep)
	mux.HandleFunc("GET /traces/{id}", s.trace)
	mux.HandleFunc("GET /traces/{id}/lines/{line}", s.traceLine)
	mux.HandleFunc("GET /losses", s.losses)
	mux.HandleFunc("GET /hosts", s.hosts)
	mux.HandleFunc("GET /counts", s.counts)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /style.css", s.style)
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, web, "web/page.js") })
	return s.door.guard(mux)
}
