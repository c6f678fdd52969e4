package event

import "time"

// Answer says which line of a trace received the answer to the question of a hit, and what the
// program did with it. What it says is in the hit's "dns".
//
// It is no part of what is recorded: it is read from the trace when somebody asks for it.
type Answer struct {
	Timestamp time.Time `json:"@timestamp"` // when the call returned
	Trace     Reference `json:"trace"`
	Line      int64     `json:"line"` // from 1
	TID       int       `json:"tid"`
	Server    Endpoint  `json:"server"`
	// Truncated says that the server told the program to ask again over TCP, Missing how many
	// records the line does not show.
	Truncated bool `json:"truncated,omitempty"`
	Missing   int  `json:"missing,omitempty"`
	// Connections are those of the next 30 seconds to the addresses in the answer; MoreConnections are left out.
	Connections     []Connection `json:"connections,omitempty"`
	MoreConnections int          `json:"connections_left_out,omitempty"`
}

// Connection is a connection to an address that a program was told, or datagrams to it.
type Connection struct {
	Timestamp   time.Time `json:"@timestamp"` // when the call began, or returned if the trace is a look-back
	Trace       Reference `json:"trace"`      // that shows it: the answer may be in another one
	Line        int64     `json:"line"`       // from 1
	TID         int       `json:"tid"`
	Destination Endpoint  `json:"destination"`
	Transport   string    `json:"transport,omitempty"`
	// Error is why there is none: ECONNREFUSED, … EINPROGRESS says only that it took a while.
	Error string `json:"error,omitempty"`
	Bytes int64  `json:"bytes,omitempty"` // that were sent to it, as far as the trace shows
	// Child says that it is by a process that the sender started.
	Child bool `json:"child,omitempty"`
	// Also are other names for which the program was told the same address before: the
	// connection may be for one of these.
	Also []string `json:"also,omitempty"`
}
