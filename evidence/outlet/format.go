package outlet

import "context"

// Formatted is an outlet that gets each event as convert makes it.
func Formatted(o Outlet, convert func(line string) string) Outlet { return formatted{o, convert} }

type formatted struct {
	Outlet
	convert func(line string) string
}

func (f formatted) Send(ctx context.Context, events []Event) error {
	converted := make([]Event, 0, len(events))
	for _, e := range events {
		converted = append(converted, Event{e.Sequence, f.convert(e.Line)})
	}
	return f.Outlet.Send(ctx, converted)
}
