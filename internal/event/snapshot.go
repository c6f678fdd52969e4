package event

import (
	"encoding/json"
	"time"
)

// Snapshot is what a process was while it stood still, before anybody traced it: at the instant
// it sent the packet of a hit. It has the bound of other documents, [MaxDocument].
type Snapshot struct {
	Timestamp time.Time       `json:"@timestamp"` // when it was taken
	Event     Meta            `json:"event"`      // with how long the process stood still for it
	Rule      *Rule           `json:"rule,omitempty"`
	User      User            `json:"user"` // of the capture
	Process   SnapshotProcess `json:"process"`
	Host      *Host           `json:"host,omitempty"` // in a fleet
	Place
	Culprit SnapshotDetail `json:"culprit"`
}

// SnapshotProcess is the process of a snapshot. Its ids are those of its first thread.
type SnapshotProcess struct {
	Process
	Args          []string `json:"args,omitempty"`
	EnvVars       []string `json:"env_vars,omitempty"` // "NAME=value"
	User          *User    `json:"user,omitempty"`     // the effective one
	SavedUser     *User    `json:"saved_user,omitempty"`
	Group         *Group   `json:"group,omitempty"`
	RealGroup     *Group   `json:"real_group,omitempty"`
	SavedGroup    *Group   `json:"saved_group,omitempty"`
	Supplementary []Group  `json:"supplemental_groups,omitempty"`
	Hash          *Hash    `json:"hash,omitempty"` // of the executable
}

// Hash is the digest of a file, in lower-case hex.
type Hash struct {
	SHA256 string `json:"sha256"`
}

// SnapshotDetail holds the fields of a snapshot that ECS does not have. Addresses are in hex, as
// not every reader of JSON has numbers of 64 bits.
type SnapshotDetail struct {
	Capture Reference  `json:"capture"`
	Hit     *Reference `json:"hit,omitempty"`
	Trace   *Reference `json:"trace,omitempty"` // nil: strace did not attach afterwards

	FSUser    *User      `json:"fs_user,omitempty"` // whose files it may open
	FSGroup   *Group     `json:"fs_group,omitempty"`
	Cgroup    string     `json:"cgroup,omitempty"` // the path in the hierarchy
	Threads   int        `json:"threads,omitempty"`
	Maps      []Mapping  `json:"maps,omitempty"`
	Files     []OpenFile `json:"files,omitempty"`
	Sockets   []Socket   `json:"sockets,omitempty"`
	Registers *Registers `json:"registers,omitempty"`
	Stack     []Frame    `json:"stack,omitempty"` // the innermost first

	// Replaceable says why the executable may be gone or be another one tomorrow; nil: only
	// root can change it. Such an executable is kept.
	Replaceable *Replaceable `json:"replaceable,omitempty"`
	// KeptExecutable is the copy of the executable in the evidence.
	KeptExecutable *File `json:"kept_executable,omitempty"`
	// Removed says why that copy is gone.
	Removed *Removed `json:"removed,omitempty"`

	// LeftOut counts what there was no room for.
	LeftOut map[SnapshotPart]int `json:"left_out,omitempty"`
	// Incomplete says which parts are missing, or not whole, and why.
	Incomplete []Incomplete `json:"incomplete,omitempty"`
}

// Miss notes that a part is missing or not whole.
func (d *SnapshotDetail) Miss(part SnapshotPart, code IncompleteCode, detail string) {
	d.Incomplete = append(d.Incomplete, Incomplete{part, Reason[IncompleteCode]{code, Cut(detail, 300)}})
}

// Final reports whether the snapshot is as it stays: its executable has been read, or will not
// be.
func (s *Snapshot) Final() bool {
	for _, i := range s.Culprit.Incomplete {
		if i.Reason.Code == IncompleteUnfinished {
			return false
		}
	}
	return true
}

// Mapping is a file that is mapped into memory, as far as its mappings follow each other, or
// memory without a file that can be executed.
type Mapping struct {
	Start       string `json:"start"`
	End         string `json:"end"`
	Permissions string `json:"permissions"` // of all of them together: "r-x"
	Path        string `json:"path,omitempty"`
}

// OpenFile is a descriptor that is no socket.
type OpenFile struct {
	FD     int    `json:"fd"`
	Access string `json:"access,omitempty"` // r, w or rw
	Path   string `json:"path"`             // or "pipe:[4711]", "anon_inode:[eventpoll]"
}

// Socket is a descriptor of a socket. The addresses are those of IP, as "192.0.2.1:53", or the
// paths of unix sockets; an abstract one begins with "@".
type Socket struct {
	FD       int    `json:"fd"`
	Inode    uint64 `json:"inode"`
	Family   string `json:"family,omitempty"`   // inet, inet6, unix, netlink, packet, or a number
	Type     string `json:"type,omitempty"`     // stream, dgram, raw, seqpacket, or a number
	Protocol string `json:"protocol,omitempty"` // udp, tcp, icmp, or a number
	Local    string `json:"local,omitempty"`
	Remote   string `json:"remote,omitempty"`
}

// Registers are those that the kernel shows of a thread that stands still (/proc/PID/syscall).
type Registers struct {
	TID     int      `json:"tid"`
	Syscall int      `json:"syscall"`        // the number of the system call; -1: in none
	Args    []string `json:"args,omitempty"` // of the system call
	SP      string   `json:"sp"`             // the stack pointer
	PC      string   `json:"pc"`             // the program counter
}

// Frame is a call of the call stack.
type Frame struct {
	Address  string `json:"address"`
	Function string `json:"function,omitempty"`
	Module   string `json:"module,omitempty"` // the file
}

// Incomplete says why a part of a snapshot is missing or not whole.
type Incomplete struct {
	Part   SnapshotPart           `json:"part"`
	Reason Reason[IncompleteCode] `json:"reason"` // not embedded: it decodes itself
}

// A SnapshotPart is a part of a snapshot.
type SnapshotPart string

// The parts of a snapshot.
const (
	PartProcess     SnapshotPart = "process" // names, ids, parents
	PartArgs        SnapshotPart = "args"
	PartEnvironment SnapshotPart = "environment"
	PartMaps        SnapshotPart = "maps"
	PartFiles       SnapshotPart = "files"
	PartSockets     SnapshotPart = "sockets"
	PartRegisters   SnapshotPart = "registers"
	PartStack       SnapshotPart = "stack"
	PartExecutable  SnapshotPart = "executable" // its hash
	PartCopy        SnapshotPart = "copy"       // of the executable
)

// How many bytes of JSON each list may take. Together, and with the process and its parents, they
// are less than MaxDocument.
const (
	maxArgs        = 24 << 10
	maxEnvironment = 48 << 10
	maxMaps        = 40 << 10
	maxFiles       = 40 << 10
	maxSockets     = 24 << 10
	maxStack       = 24 << 10
)

// Fit cuts the lists to their bounds, and counts what it leaves out.
func (s *Snapshot) Fit() {
	d := &s.Culprit
	fit(d, PartArgs, &s.Process.Args, maxArgs)
	fit(d, PartEnvironment, &s.Process.EnvVars, maxEnvironment)
	fit(d, PartMaps, &d.Maps, maxMaps)
	fit(d, PartFiles, &d.Files, maxFiles)
	fit(d, PartSockets, &d.Sockets, maxSockets)
	fit(d, PartStack, &d.Stack, maxStack)
}

// LeaveOut counts what is left out of a part.
func (d *SnapshotDetail) LeaveOut(part SnapshotPart, n int) {
	if n <= 0 {
		return
	}
	if d.LeftOut == nil {
		d.LeftOut = map[SnapshotPart]int{}
	}
	d.LeftOut[part] += n
}

func fit[T any](d *SnapshotDetail, part SnapshotPart, list *[]T, most int) {
	for i, one := range *list {
		b, err := json.Marshal(one)
		if most -= len(b) + 1; most < 0 || err != nil {
			d.LeaveOut(part, len(*list)-i)
			*list = (*list)[:i:i]
			return
		}
	}
}
