package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/evidence/tracefile"
)

// lookBackConfig keeps the last calls of all users in memory, and stops nobody: what a program did
// before its packet is nowhere else.
const lookBackConfig = badzone + `nflog: {rate: 100000}
capture:
  levels: [{hits: 1, processes: 10, window: 1s, strings: 512}]
  linger: 0s
  freeze: "off"
lookback: {users: all}
`

// shortProgram is a two-millisecond program that reads a file, becomes another one, and asks for a name.
func shortProgram(offender, label string) []string {
	return []string{"/bin/sh", "-c", "read x < /etc/hostname; exec " + offender + " -n " + label + ".badzone.test"}
}

// BenchmarkLookBackEvidence measures how long after its packet the look-back of a program is in the
// catalogue, and its lines in their file: of programs that are started one by one, each the first of its
// user, with memory that is full.
func BenchmarkLookBackEvidence(b *testing.B) {
	const programs, pause = 200, 40 * time.Millisecond
	p, load := catchPrograms(b), lookbackLoad(b)
	n := newNet(b)
	d := start(b, n, lookBackConfig)
	for range 4 { // fills the memory
		runAs(b, offenderUID, load)
	}
	var took, files []time.Duration
	for b.Loop() {
		for i := range programs {
			cmd := exec.Command("/bin/sh", shortProgram(p.offender, fmt.Sprint("r", i))[1:]...)
			uid := uint32(newcomerUID + i)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
			if err := n.Start(cmd); err != nil {
				b.Fatal(err)
			}
			next := time.After(pause)
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
			var hit, path string
			query := "SELECT hit, doc ->> '$.file.path' FROM traces WHERE uid = ? AND doc ->> '$.culprit.look_back' IS NOT NULL"
			await(b, "the look-back", time.Millisecond, func() bool { return d.db.QueryRow(query, uid).Scan(&hit, &path) == nil })
			seen := time.Now()
			var at string
			if err := d.db.QueryRow("SELECT doc ->> '$.@timestamp' FROM hits WHERE id = ?", hit).Scan(&at); err != nil {
				b.Fatal(err)
			}
			sent, err := time.Parse(time.RFC3339Nano, at)
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, seen.Sub(sent))
			var st unix.Statx_t
			if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &st); err == nil && st.Mask&unix.STATX_BTIME != 0 {
				files = append(files, time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).Sub(sent))
			}
			<-next
		}
	}
	reportMS(b, "catalogue-", took)
	if len(files) > 0 {
		reportMS(b, "file-", files) // when it was made; its lines are written right after that
	}
	noTimePerRun(b)
}

// BenchmarkCatchLookBack counts the two-millisecond programs, each the first of its user, whose hit a line of
// their look-back proves, and whose look-back has all that they did until then. Nobody is stopped.
func BenchmarkCatchLookBack(b *testing.B) {
	count, _ := strconv.Atoi(os.Getenv(catchEnv))
	if count <= 0 {
		b.Skip("run it with make bench-catch, or give " + catchEnv)
	}
	p := catchPrograms(b)
	for _, atATime := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d-at-a-time", atATime), func(b *testing.B) {
			n := newNet(b)
			d := start(b, n, lookBackConfig)
			done := p.launcher(b, n, false, newcomerUID, "exec+", count, atATime, "r00", shortProgram(p.offender, "@")...).run(b)
			ended := "SELECT count(*) FROM traces WHERE doc ->> '$.culprit.look_back' IS NOT NULL AND state <> 'running'"
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && d.count(b, ended) < count; {
				time.Sleep(100 * time.Millisecond)
			}
			written, proven, whole := d.lookBacks(b, p.offender)
			b.ReportMetric(float64(len(done.programs)), "started")
			b.ReportMetric(float64(d.count(b, "SELECT count(*) FROM hits")), "hits")
			b.ReportMetric(float64(written), "look-backs")
			b.ReportMetric(float64(proven), "proven")
			b.ReportMetric(float64(whole), "whole")
			b.ReportMetric(float64(len(done.programs))/done.took.Seconds(), "programs/s")
			d.logLosses(b)
			noTimePerRun(b)
		})
	}
}

// lookBacks counts the look-backs, those that have the line which proves their hit, and those of these that
// have the program from its start on.
func (d *daemon) lookBacks(b *testing.B, offender string) (written, proven, whole int) {
	b.Helper()
	rows, err := d.db.Query(`SELECT t.doc ->> '$.file.path', t.doc ->> '$.culprit.hit.id',
		EXISTS (SELECT 1 FROM proofs p WHERE p.hit = t.hit AND p.trace = t.id AND p.doc ->> '$.culprit.kernel' IS NOT TRUE)
		FROM traces t WHERE t.doc ->> '$.culprit.look_back' IS NOT NULL`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var path, hit string
		var proves bool
		if err := rows.Scan(&path, &hit, &proves); err != nil {
			b.Fatal(err)
		}
		written++
		text := lookBackText(b, path)
		if !proves {
			b.Logf("not proven: hit %s\n%s", hit, text)
			continue
		}
		proven++
		if lacks := inOrder(text, `execve("/bin/sh"`, `"/etc/hostname", O_RDONLY`, `execve("`+offender, `sendto(`); lacks == "" {
			whole++
		} else {
			b.Logf("no %s:\n%s", lacks, text)
		}
	}
	return written, proven, whole
}

// lookBackText reads the lines of a look-back.
func lookBackText(b *testing.B, path string) string {
	b.Helper()
	f, err := tracefile.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// inOrder returns the first of the texts that does not follow the one before.
func inOrder(text string, want ...string) string {
	for _, w := range want {
		_, after, found := strings.Cut(text, w)
		if !found {
			return w
		}
		text = after
	}
	return ""
}
