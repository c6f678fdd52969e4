// Package lists compares ways to hold a million names. It is a module of its own, so that culprit does not depend on
// what it is compared with: run it with make bench-lists.
package lists

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/AdguardTeam/urlfilter"
	"github.com/AdguardTeam/urlfilter/filterlist"
	"github.com/blevesearch/vellum"

	"culprit/lists/format"
	"culprit/lists/set"
)

// million writes a list of a million names as feeds have them, and returns its path.
func million(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "list")
	var text bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "%s # C2\n", listed(i))
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// listed is the name with the number i on the list; unlisted ones are like it.
func listed(i int) string   { return fmt.Sprintf("cdn%d.evil-%x.%s", i%7, i*2654435761, tld(i)) }
func unlisted(i int) string { return fmt.Sprintf("www%d.good-%x.%s", i%7, i*2654435761, tld(i)) }
func tld(i int) string      { return []string{"com", "net", "org", "example", "co.uk"}[i%5] }

// A holder is a way to hold a list: load reads it, and returns how a name is looked up: in wire form, or as text.
type holder struct {
	name string
	load func(path string) func(wire []byte, name string) bool
}

var holders = []holder{
	{"set", func(path string) func([]byte, string) bool {
		dir := filepath.Dir(path)
		b := must(set.NewBuilder(dir))
		b.File(path)
		read(path, b.Add)
		file := must(set.Temporary(dir))
		if err := b.Build(file); err != nil {
			panic(err)
		}
		b.Close()
		s := must(set.Open(file))
		file.Close()
		return func(wire []byte, _ string) bool {
			_, found := s.Find(wire)
			return found
		}
	}},
	// What finds a name and everything above it, and nothing to say about it.
	{"map", func(path string) func([]byte, string) bool {
		m := map[string]struct{}{}
		read(path, func(e format.Entry) error {
			m[e.Name] = struct{}{}
			return nil
		})
		return func(_ []byte, name string) bool {
			return above(name, func(n string) bool { _, found := m[n]; return found })
		}
	}},
	// What can also say where the entry stands.
	{"map of entries", func(path string) func([]byte, string) bool {
		m := map[string]format.Entry{}
		read(path, func(e format.Entry) error {
			e.Name, e.Comment = strings.Clone(e.Name), strings.Clone(e.Comment)
			m[e.Name] = e
			return nil
		})
		return func(_ []byte, name string) bool {
			return above(name, func(n string) bool { _, found := m[n]; return found })
		}
	}},
	// AdGuard's engine, which keeps the rules in a file, too, and finds them by hashes of their parts.
	{"urlfilter", func(path string) func([]byte, string) bool {
		rules := filepath.Join(filepath.Dir(path), "adblock.txt")
		var text bytes.Buffer
		read(path, func(e format.Entry) error {
			fmt.Fprintf(&text, "||%s^\n", e.Name)
			return nil
		})
		if err := os.WriteFile(rules, text.Bytes(), 0o600); err != nil {
			panic(err)
		}
		text = bytes.Buffer{}
		list := must(filterlist.NewFileRuleList(1, rules, true))
		engine := urlfilter.NewDNSEngine(must(filterlist.NewRuleStorage([]filterlist.RuleList{list})))
		return func(_ []byte, name string) bool {
			_, found := engine.Match(name)
			return found
		}
	}},
	// A finite state transducer of the names, backwards, in a mapped file: it is the smallest that knows each name.
	{"vellum", func(path string) func([]byte, string) bool {
		var names []string
		read(path, func(e format.Entry) error {
			names = append(names, backwards(e.Name))
			return nil
		})
		slices.Sort(names)
		names = slices.Compact(names)
		file := must(os.Create(filepath.Join(filepath.Dir(path), "fst")))
		b := must(vellum.New(file, nil))
		for i, n := range names {
			if err := b.Insert([]byte(n), uint64(i)); err != nil {
				panic(err)
			}
		}
		if err := b.Close(); err != nil {
			panic(err)
		}
		file.Close()
		fst := must(vellum.Open(file.Name()))
		return func(_ []byte, name string) bool {
			at := fst.Start()
			for i := len(name) - 1; i >= 0; i-- {
				if at = fst.Accept(at, name[i]); !fst.CanMatch(at) {
					return false
				}
				if fst.IsMatch(at) && (i == 0 || name[i-1] == '.') {
					return true
				}
			}
			return false
		}
	}},
}

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// wire returns the wire form of a name.
func wire(name string) (b []byte) {
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return b
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func read(path string, each func(format.Entry) error) {
	f := must(os.Open(path))
	defer f.Close()
	if _, err := format.Read(f, format.Domains, each); err != nil {
		panic(err)
	}
}

func above(name string, has func(string) bool) bool {
	for {
		if has(name) {
			return true
		}
		_, rest, more := strings.Cut(name, ".")
		if !more {
			return false
		}
		name = rest
	}
}

// holderMemory asks the test binary to say what a way to hold a list takes in a process of its own.
const holderMemory = "CULPRIT_BENCH_HOLDER"

func TestMain(m *testing.M) {
	if i, err := strconv.Atoi(os.Getenv(holderMemory)); err == nil {
		path := os.Getenv("CULPRIT_BENCH_LIST")
		before, start := resident(), time.Now()
		find := holders[i].load(path)
		took := time.Since(start)
		for i := range 1 << 16 {
			find(wire(unlisted(i)), unlisted(i)) // the filter is resident at the latest now
		}
		debug.FreeOSMemory()
		idle := resident() - before
		for i := range 1000 {
			find(wire(listed(i*997)), listed(i*997))
		}
		fmt.Println(took.Nanoseconds(), idle, resident()-before)
		runtime.KeepAlive(find)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// resident returns the resident memory of this process in bytes.
func resident() int {
	b := must(os.ReadFile("/proc/self/statm"))
	return must(strconv.Atoi(strings.Fields(string(b))[1])) * os.Getpagesize()
}

// BenchmarkLists compares ways to hold a million names: how long loading takes, how much more memory is resident then,
// and when a thousand of the names were asked for, in a process that does nothing else; and what it costs to look for names that
// are listed, and for others.
func BenchmarkLists(b *testing.B) {
	path := million(b)
	for i, h := range holders {
		b.Run(h.name, func(b *testing.B) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), holderMemory+"="+strconv.Itoa(i), "CULPRIT_BENCH_LIST="+path)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				b.Fatal(err)
			}
			var load, idle, used float64
			if _, err := fmt.Fscan(bytes.NewReader(out), &load, &idle, &used); err != nil && err != io.EOF {
				b.Fatal(err)
			}
			find := h.load(path)
			const many = 1 << 16
			var hits, misses [many][]byte
			var hitNames, missNames [many]string
			for i := range many {
				hitNames[i], missNames[i] = listed(i*13%1_000_000), unlisted(i*13)
				hits[i], misses[i] = wire(hitNames[i]), wire(missNames[i])
			}
			each := func(wires *[many][]byte, names *[many]string, want bool) float64 {
				const rounds = 16
				start := time.Now()
				for range rounds {
					for i := range many {
						if find(wires[i], names[i]) != want {
							b.Fatalf("%s: found %v", names[i], !want)
						}
					}
				}
				return float64(time.Since(start).Nanoseconds()) / (rounds * many)
			}
			var hit, miss float64
			for b.Loop() {
				hit, miss = each(&hits, &hitNames, true), each(&misses, &missNames, false)
			}
			allocs := testing.AllocsPerRun(1000, func() { find(hits[0], hitNames[0]); find(misses[0], missNames[0]) })
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(load/1e9, "s/load")
			b.ReportMetric(idle/1e6, "MB-resident")
			b.ReportMetric(used/1e6, "MB-used")
			b.ReportMetric(hit, "ns/hit")
			b.ReportMetric(miss, "ns/miss")
			b.ReportMetric(allocs, "allocs/look")
			runtime.KeepAlive(find)
		})
	}
}
