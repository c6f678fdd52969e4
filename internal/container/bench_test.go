package container

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"culprit/internal/proc"
)

// BenchmarkFind compares finding a container that is known, one for the first time among 500, and what
// must be read in any case: the cgroup of the process.
func BenchmarkFind(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("files have to belong to root")
	}
	dir := b.TempDir()
	n := node{dir: dir, Containers: New(proc.FS(dir + "/proc"))}
	n.roots, n.cgroups = []string{dir}, mounts{"": dir + "/cgroup"}
	var all []string
	for i := range 500 {
		all = append(all, fmt.Sprintf(`{"id":"%064x","names":["c%d"],"layer":"%064x","metadata":"{\"image-name\":\"docker.io/library/nginx:1.27\",\"image-id\":\"%064x\"}","flags":{}}`, i, i, i, i))
	}
	id := fmt.Sprintf("%064x", 499)
	write := func(name, text string) {
		b.Helper()
		if err := os.MkdirAll(n.path(name)[:strings.LastIndexByte(n.path(name), '/')], 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	write("var/lib/containers/storage/overlay-containers/containers.json", "["+strings.Join(all, ",")+"]")
	write("var/lib/containers/storage/overlay-containers/"+id+"/userdata/config.json", annotated(map[string]string{"io.container.manager": "libpod"}))
	write("cgroup/machine.slice/libpod-"+id+".scope/cgroup.procs", "")
	write("proc/7/cgroup", "0::/machine.slice/libpod-"+id+".scope/container\n")
	if got := n.Of(7); got.Container == nil || got.Container.Name != "c499" {
		b.Fatalf("%+v", got)
	}
	per := map[string]float64{}
	for _, way := range []struct {
		name string
		f    func()
	}{
		{"read", func() { n.fs.Cgroup(7) }},
		{"known", func() { n.Of(7) }},
		{"first", func() { clear(n.known); n.Of(7) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				way.f()
			}
			per[way.name] = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(per[way.name]/per["read"], "x-of-read")
		})
	}
}
