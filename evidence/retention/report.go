package retention

// A Report is what a sweep did, or would do.
type Report struct {
	Compressed int              // traces
	Removed    []Removal        // in order
	Expired    map[string]int64 // rows of the catalogue that were removed, by table
	Bytes      int64            // of the evidence on the disk, before anything was removed
	Free       int64            // the free disk then, in bytes
}

// Left is how many bytes the evidence takes after what was removed, and Room how many
// are free on the disk then.
func (r Report) Left() (evidence, room int64) {
	evidence, room = r.Bytes, r.Free
	for _, one := range r.Removed {
		evidence, room = evidence-one.Size, room+one.Size
	}
	return evidence, room
}

// What files are removed, in one word each.
const (
	RemovedTrace   = "trace"
	RemovedPackets = "packets"
)

// What is what was removed, in one word.
func (r Removal) What() string {
	if r.packets() {
		return RemovedPackets
	}
	return RemovedTrace
}
