package fleet

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// LeaveWithin is how long [Conn.Leave] takes at most, with servers that are slow.
const LeaveWithin = 5 * time.Second

// Leave removes a consumer of a stream that nobody reads any more: the server would keep it for another five minutes, and has a limit
// for all of them together.
func (c *Conn) Leave(stream string, consumer jetstream.Consumer) {
	info := consumer.CachedInfo()
	if info == nil || !c.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), LeaveWithin) // whoever read has ended
	defer cancel()
	_ = c.JS.DeleteConsumer(ctx, stream, info.Name) // else the server removes it later
}
