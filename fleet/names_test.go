package fleet

import (
	"testing"

	"culprit/internal/config"
)

func TestNames(t *testing.T) {
	t.Parallel()
	const n = Name("prod-1")
	for _, host := range []string{"web1", "web1.example.com", "a-b.c", "1"} {
		got, err := n.HostOfSubject(n.Subject(host))
		if err != nil || got != host {
			t.Errorf("%s became %s, %v", host, got, err)
		}
	}
	for _, subject := range []string{"", "prod-1.events.", "prod-1.events.*", "prod-1.events.>", "prod-1.events.a.b", "prod-1.events.a__b", "prod-1.events._a", "prod-2.events.a", "prod-1.events.A", "prod-1.events.a\nb"} {
		if host, err := n.HostOfSubject(subject); err == nil {
			t.Errorf("%q is of host %q", subject, host)
		}
	}
}

func TestHostName(t *testing.T) {
	t.Parallel()
	if name, err := HostName(config.Fleet{Host: "web1"}); err != nil || name != "web1" {
		t.Error(name, err)
	}
}

func FuzzHostOfSubject(f *testing.F) {
	f.Add("culprit.events.web1_example_com")
	f.Add("culprit.events.")
	f.Fuzz(func(t *testing.T, subject string) {
		const n = Name("culprit")
		if host, err := n.HostOfSubject(subject); err == nil && n.Subject(host) != subject {
			t.Errorf("%q became host %q", subject, host)
		}
	})
}
