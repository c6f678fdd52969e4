// Package config reads culprit's configuration file, fills in the defaults, and refuses what
// cannot work, with every mistake at once.
package config

import (
	"slices"
	"time"

	"culprit/internal/redact"
)

// DefaultPath is where the daemon looks for its configuration.
const DefaultPath = "/etc/culprit/config.yaml"

// Config is the whole configuration. config.example.yaml documents each of its keys.
type Config struct {
	// Path is the file that it was read from.
	Path string `mapstructure:"-"`

	Rules    []Rule   `mapstructure:"rules"`
	Lists    Lists    `mapstructure:"lists"`
	Firewall Firewall `mapstructure:"firewall"`
	NFLog    NFLog    `mapstructure:"nflog"`
	Sensor   string   `mapstructure:"sensor"` // one of the Sensor constants
	// Namespaces are the network namespaces beside our own: see [Config.OtherNamespaces].
	Namespaces []string `mapstructure:"namespaces"`
	Capture    Capture  `mapstructure:"capture"`
	Lookback   Lookback `mapstructure:"lookback"`
	Guard      Guard    `mapstructure:"guard"`
	Evidence   Evidence `mapstructure:"evidence"`
	Events     Events   `mapstructure:"events"`
	Metrics    Metrics  `mapstructure:"metrics"`
	Serve      Serve    `mapstructure:"serve"`
	Fleet      Fleet    `mapstructure:"fleet"`
	Log        Log      `mapstructure:"log"`
}

// Lists says how the lists of the rules are kept up to date.
type Lists struct {
	// Watch: a list that changes is loaded again by itself.
	Watch bool `mapstructure:"watch"`
	// Sources are what `culprit lists update` fetches, as User. CA is a file with certificates to trust beside the system's.
	Sources []Source `mapstructure:"sources"`
	User    User     `mapstructure:"user"`
	CA      string   `mapstructure:"ca"`
}

// Firewall says where the rules go in the firewall.
type Firewall struct {
	Table string `mapstructure:"table"`
	Chain string `mapstructure:"chain"`
	// MarkBit is the bit of a packet's mark that the sensor's way "mark" sets.
	MarkBit int `mapstructure:"mark_bit"`
}

// The values of sensor: how the kernel is made to say who sends a packet.
const (
	SensorAuto  = "auto"  // the first way that works
	SensorNFLog = "nflog" // when the NFLOG message about the packet is handed over
	SensorRule  = "rule"  // by the iptables rule
	SensorMark  = "mark"  // when the packet, marked by the iptables rule, is given to its device
	SensorOff   = "off"
)

// The values of namespaces that stand alone: which network namespaces are looked at. Others are names, patterns of names,
// and PIDs.
const (
	NamespacesHost = "host" // the one that culprit runs in
	NamespacesAll  = "all"
)

// OtherNamespaces returns which network namespaces are looked at beside the one that culprit runs in: none, NamespacesAll
// alone, or names, patterns of names, and PIDs.
func (c *Config) OtherNamespaces() []string {
	if slices.Equal(c.Namespaces, []string{NamespacesHost}) {
		return nil
	}
	return c.Namespaces
}

// NFLog says how logged packets reach us.
type NFLog struct {
	Group   int `mapstructure:"group"`
	Snaplen int `mapstructure:"snaplen"`
	// Queue is how many packets may wait to be processed, Rate how many hits a second are kept.
	// What exceeds either is counted as lost.
	Queue int `mapstructure:"queue"`
	Rate  int `mapstructure:"rate"`
}

// The scopes of a capture.
const (
	ScopeUser      = "user"      // every process of the UID
	ScopeContainer = "container" // every process of the container, or of the UID on the host
	ScopeProcess   = "process"   // the process the hit came from, and its descendants
)

// Capture bounds what captures may do.
type Capture struct {
	Scope      string        `mapstructure:"scope"`
	Levels     []Level       `mapstructure:"levels"`
	Concurrent int           `mapstructure:"concurrent"`
	TraceBytes Bytes         `mapstructure:"trace_bytes"`
	Linger     time.Duration `mapstructure:"linger"`
	// Gate is one of the Gate constants; GateDeadline is the longest a program is held.
	Gate         string        `mapstructure:"gate"`
	GateDeadline time.Duration `mapstructure:"gate_deadline"`
	// Freeze is one of the Freeze constants.
	Freeze string `mapstructure:"freeze"`
	// Redact holds regular expressions for what to mask in the evidence.
	Redact []string `mapstructure:"redact"`
}

// Redaction returns the compiled patterns of Redact. The configuration must come from [Load].
func (c Capture) Redaction() *redact.Patterns {
	p, _ := redact.Compile(c.Redact)
	return p
}

// The values of capture.gate.
const (
	GateAuto     = "auto"     // hold the programs of captured users until strace is attached: by BPF, or else by fanotify
	GateBPF      = "bpf"      // the kernel stops them by itself
	GateFanotify = "fanotify" // a helper process holds them in execve
	GateStop     = "stop"     // the same as on kernels before 6.8: by SIGSTOP
	GateOff      = "off"
)

// The values of capture.freeze.
const (
	FreezeAuto = "auto" // the sender of a packet stands still until strace is attached, if the sensor can do that
	FreezeOff  = "off"
)

// Level is how hard a capture works once it has seen Hits hits.
type Level struct {
	Hits      int           `mapstructure:"hits"`
	Processes int           `mapstructure:"processes"`
	Window    time.Duration `mapstructure:"window"`
	// Strings is strace's -s, Syscalls its -e trace= (empty: all), Stacks its -k.
	Strings  int    `mapstructure:"strings"`
	Syscalls string `mapstructure:"syscalls"`
	Stacks   bool   `mapstructure:"stacks"`
}

// WantsStacks reports whether any level prints call stacks.
func (c Capture) WantsStacks() bool {
	return slices.ContainsFunc(c.Levels, func(l Level) bool { return l.Stacks })
}

// Lookback says whose system calls are kept in memory, to be written down if a hit comes.
type Lookback struct {
	// Users are names or UIDs, or "all": all but root. None: nothing is kept.
	Users []string `mapstructure:"users"`
	// Strings is how many bytes are kept of each string and buffer.
	Strings int `mapstructure:"strings"`
	// Memory is for everything together.
	Memory Bytes `mapstructure:"memory"`
}

// LookbackAll stands for all users but root.
const LookbackAll = "all"

// UIDs returns the users, or that all are meant. The configuration must come from [Load].
func (l Lookback) UIDs() (uids []uint32, all bool) {
	for _, name := range l.Users {
		if name == LookbackAll {
			return nil, true
		}
		if u, err := ParseUser(name); err == nil {
			uids = append(uids, u.UID)
		}
	}
	return uids, false
}

// Guard names the users and programs that are never traced. Users are names or UIDs.
type Guard struct {
	ProcessScopeUsers []User   `mapstructure:"process_scope_users"`
	NeverUsers        []User   `mapstructure:"never_users"`
	NeverExecutables  []string `mapstructure:"never_executables"`
	// Resolvers are users, by name or UID, and paths of programs that forward the lookups of
	// others. Those that this machine does not have do no harm.
	Resolvers []string `mapstructure:"resolvers"`
}

// resolvers are the usual resolvers.
var resolvers = []string{
	"systemd-resolve", "dnsmasq", "unbound", "bind", "named", "pdns", "knot-resolver", "stubby", "dnscrypt-proxy",
	"/usr/sbin/dnsmasq", "/usr/sbin/nscd", "/usr/sbin/unscd", "/usr/sbin/named", "/usr/sbin/unbound",
	// Of containers. Where these are a user's, they are joined only to what was asked in the user's own namespaces.
	"/usr/bin/passt*", "/usr/bin/pasta*", "/usr/bin/slirp4netns", "/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd",
	"/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns",
}

// Evidence says where evidence is kept, and how much of it.
type Evidence struct {
	Dir string `mapstructure:"dir"`
	// Keep is how long it is kept, MaxBytes how much disk it may use, and MinFree how much must
	// stay free there.
	Keep     time.Duration `mapstructure:"keep"`
	MaxBytes Bytes         `mapstructure:"max_bytes"`
	MinFree  Bytes         `mapstructure:"min_free"`
	Compress bool          `mapstructure:"compress"` // closed traces, with zstd
	// KeepExecutables is the largest executable that a snapshot keeps a copy of; 0: none.
	KeepExecutables Bytes `mapstructure:"keep_executables"`
}

// Events says where each hit, capture, trace, proof and loss is sent as a line of JSON: to one
// of these, or nowhere.
type Events struct {
	Format   string   `mapstructure:"format"`
	File     string   `mapstructure:"file"`
	Journald bool     `mapstructure:"journald"`
	Command  []string `mapstructure:"command"`
	OTLP     OTLP     `mapstructure:"otlp"`
}

// Log says how the daemon logs.
type Log struct {
	Format string `mapstructure:"format"`
	Level  string `mapstructure:"level"`
}

// Default returns the configuration of an empty file, which has no rules.
func Default() Config {
	return Config{
		Lists:      Lists{Watch: true, User: User{UID: 65534, Name: "nobody"}},
		Firewall:   Firewall{Table: "raw", Chain: "CULPRIT", MarkBit: 30},
		NFLog:      NFLog{Group: 5353, Snaplen: 2048, Queue: 32768, Rate: 10000},
		Sensor:     SensorAuto,
		Namespaces: []string{NamespacesHost},
		Capture: Capture{
			Scope: ScopeUser,
			Levels: []Level{
				{Hits: 1, Processes: 5, Window: 30 * time.Second, Strings: 512},
				{Hits: 3, Processes: 50, Window: 2 * time.Minute, Strings: 65535},
				{Hits: 10, Processes: 500, Window: 10 * time.Minute, Strings: 65535},
			},
			Concurrent: 32,
			TraceBytes: 64 << 20,
			Linger:     30 * time.Second,

			Gate:         GateAuto,
			GateDeadline: 500 * time.Millisecond,
			Freeze:       FreezeAuto,
		},
		Lookback: Lookback{Strings: 256, Memory: 32 << 20},
		Guard:    Guard{ProcessScopeUsers: []User{{UID: 0, Name: "root"}}, Resolvers: slices.Clone(resolvers)},
		Evidence: Evidence{Dir: "/var/lib/culprit", Keep: 30 * day, MaxBytes: 5 << 30, MinFree: 1 << 30, Compress: true, KeepExecutables: 64 << 20},
		Events:   Events{Format: FormatECS, OTLP: OTLP{Compression: CompressionGzip, Timeout: 10 * time.Second}},
		Serve:    Serve{Listen: "unix:/run/culprit-serve/serve.sock"},
		Fleet:    Fleet{Name: "culprit", Bundles: BundlesNever, MaxWaiting: 128 << 20, Dir: "/var/lib/culprit-fleet"},
		Log:      Log{Format: "text", Level: "info"},
	}
}

// fillRule fills in what a rule leaves out.
func fillRule(r *Rule) {
	if r.Protocols == nil {
		r.Protocols = []string{"udp", "tcp"}
	}
	if r.Ports == nil {
		r.Ports = []int{53}
	}
	if r.Families == nil {
		r.Families = []string{"ipv4", "ipv6"}
	}
	if len(r.List) > 0 && r.Format == "" {
		r.Format = FormatAuto
	}
}

// fillLevels lets each level inherit what it leaves out from the level before it, and the first
// from the first default level. A zero in the file is not left out: validation refuses it,
// because nobody who writes "processes: 0" means five.
func fillLevels(levels []Level, written func(level int, key string) bool) {
	prev := Default().Capture.Levels[0]
	for i := range levels {
		l := &levels[i]
		if l.Hits == 0 && i == 0 && !written(i, "hits") {
			l.Hits = prev.Hits
		}
		if l.Processes == 0 && !written(i, "processes") {
			l.Processes = prev.Processes
		}
		if l.Window == 0 && !written(i, "window") {
			l.Window = prev.Window
		}
		if l.Strings == 0 && !written(i, "strings") {
			l.Strings = prev.Strings
		}
		prev = *l
	}
}
