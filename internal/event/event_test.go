package event

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The documents have the shape that README and the Elastic Common Schema promise.
func TestHitDocument(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := Hit{
		Timestamp:   at,
		Event:       Meta{ID: "01H", Kind: "alert", Action: ActionHit},
		Rule:        Rule{Name: "badzone"},
		User:        &User{ID: "4242", Name: "web1"},
		Network:     Network{Transport: "udp", Type: "ipv4", Bytes: 60},
		Source:      Endpoint{netip.MustParseAddr("127.0.0.1"), 42392},
		Destination: Endpoint{netip.MustParseAddr("127.0.0.1"), 53},
		DNS:         &DNS{ID: "4660", Question: Question{Name: "x.badzone.test", Type: "A", Class: "IN"}},
		Process:     &Process{PID: 812, EntityID: "812-5", Start: at, Executable: "/usr/bin/php", CommandLine: "php cron.php", Parent: &Process{PID: 811, EntityID: "811-4", Start: at, CommandLine: "sh -c …"}},
		Culprit:     HitDetail{Capture: &Reference{"01C"}, Origin: Origin{Grade: GradeSocket}, Count: 1},
		Packet:      []byte("never in the document"),
	}
	const want = `{"@timestamp":"2026-01-02T03:04:05Z","event":{"id":"01H","kind":"alert","action":"hit"},` +
		`"rule":{"name":"badzone"},"user":{"id":"4242","name":"web1"},` +
		`"network":{"transport":"udp","type":"ipv4","bytes":60},` +
		`"source":{"ip":"127.0.0.1","port":42392},"destination":{"ip":"127.0.0.1","port":53},` +
		`"dns":{"id":"4660","question":{"name":"x.badzone.test","type":"A","class":"IN"}},` +
		`"process":{"pid":812,"entity_id":"812-5","start":"2026-01-02T03:04:05Z","executable":"/usr/bin/php","command_line":"php cron.php",` +
		`"parent":{"pid":811,"entity_id":"811-4","start":"2026-01-02T03:04:05Z","command_line":"sh -c …"}},` +
		`"culprit":{"capture":{"id":"01C"},"origin":{"grade":"socket"},"count":1}}`
	got, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		(*User)(nil).String():                       "unknown",
		(&User{ID: "7"}).String():                   "7",
		(&User{ID: "7", Name: "web1"}).String():     "web1 (7)",
		(&Process{PID: 1, Name: "init"}).String():   "1 init",
		(&Hit{}).Asks():                             "-",
		Endpoint{}.String():                         "unknown",
		Endpoint{netip.IPv6Loopback(), 53}.String(): "[::1]:53",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if (&User{ID: "4294967294"}).UID() != 4294967294 {
		t.Error("a large UID is cut")
	}
}
