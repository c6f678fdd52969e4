// Package fetch gets lists of domains over HTTPS and puts them where the rules read them.
//
// The network is talked to by a child process without rights. We read what it writes from a pipe, bound it, check it, read
// it as a list, and only then replace the file, at once. Whatever goes wrong, the file that is there stays.
package fetch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"culprit/internal/config"
	"culprit/internal/text"
	"culprit/lists/format"
)

// A Result is what became of one source.
type Result struct {
	// Unchanged says that the server has nothing newer.
	Unchanged bool
	// Stats say what is in the list that was put in place.
	Stats format.Stats
	// Before is how many entries the file had before; -1: there was none, or it could not be read.
	Before int
}

// Shrunk reports whether the list lost more than half of its entries.
func (r Result) Shrunk() bool { return r.Before > 0 && r.Stats.Entries < (r.Before+1)/2 }

// A Fetcher fetches sources.
type Fetcher struct {
	User  uint32 // who talks to the network, if we are root
	CA    []byte // certificates in PEM beside the system's
	Agent string // what we are called in requests
}

// grace is how much longer than its timeout we wait for the child. It ends by itself before.
const grace = 2 * time.Second

// Update fetches one source, and replaces its file if that gives a list.
func (f *Fetcher) Update(ctx context.Context, s config.Source) (Result, error) {
	result := Result{Before: -1}
	temp, err := temporary(s.File)
	if err != nil {
		return result, fmt.Errorf("make a file beside it: %w", err)
	}
	defer os.Remove(temp.Name())
	defer temp.Close()

	old := recall(s.File, s.URL)
	answer, err := f.get(ctx, s, old, temp)
	if err != nil {
		return result, fmt.Errorf("fetch %s: %w", s.URL, err)
	}
	if answer.Unchanged {
		result.Unchanged = true
		return result, kept(s, old)
	}
	if result.Stats, err = count(temp, s.Format); err != nil {
		return result, fmt.Errorf("read what %s gave: %w", s.URL, err)
	}
	if file, err := os.Open(s.File); err == nil {
		if stats, err := count(file, s.Format); err == nil {
			result.Before = stats.Entries
		}
		file.Close()
	}
	remember(temp, memory{URL: s.URL, Tag: answer.Tag, Modified: answer.Modified})
	if err := replace(temp, s.File); err != nil {
		return result, err
	}
	return result, nil
}

// get lets the child fetch the source into a file, and checks what it gives.
func (f *Fetcher) get(ctx context.Context, s config.Source, old memory, into io.Writer) (answer reply, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout+grace)
	defer cancel()
	ask, err := json.Marshal(request{
		URL: s.URL, Agent: f.Agent, Tag: old.Tag, Modified: old.Modified, CA: f.CA, MaxBytes: int64(s.MaxBytes), Timeout: s.Timeout,
	})
	if err != nil {
		return answer, err
	}
	cmd, err := command(f.User)
	if err != nil {
		return answer, err
	}
	output, input, err := os.Pipe()
	if err != nil {
		return answer, err
	}
	defer output.Close()
	var why said
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(ask), input, &why
	cmd.WaitDelay = time.Second
	ended, err := start(cmd)
	input.Close()
	if err != nil {
		return answer, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	answer, failed := take(output, s, into)
	output.Close() // a child that writes on ends by that
	err = <-ended
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return answer, errors.New("interrupted")
	case ctx.Err() != nil:
		return answer, errors.New("the process that fetches did not end in time, and was killed")
	case len(why.text) > 0:
		return answer, errors.New(text.Escape(strings.TrimPrefix(strings.TrimSpace(string(why.text)), "culprit: ")))
	case failed != nil:
		return answer, failed
	case err != nil:
		return answer, fmt.Errorf("the process that fetches: %w", err)
	}
	return answer, nil
}

// take reads what the child writes, which is not trusted more than the server.
func take(from io.Reader, s config.Source, into io.Writer) (answer reply, err error) {
	in := bufio.NewReaderSize(from, maxReply)
	head, err := in.ReadSlice('\n')
	if err != nil {
		return answer, fmt.Errorf("the process that fetches gave no answer: %w", err)
	}
	if err := json.Unmarshal(head, &answer); err != nil {
		return answer, fmt.Errorf("the answer of the process that fetches: %w", err)
	}
	if answer.Unchanged {
		return answer, nil
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(hash, into), io.LimitReader(in, int64(s.MaxBytes)+1))
	switch {
	case err != nil:
		return answer, err
	case n > int64(s.MaxBytes):
		return answer, fmt.Errorf("it has more bytes than the %d that max_bytes allows", int64(s.MaxBytes))
	}
	return answer, compare(s, hash)
}

// compare compares the hash of a list with that of the configuration.
func compare(s config.Source, hash hash.Hash) error {
	if got := hex.EncodeToString(hash.Sum(nil)); s.SHA256 != "" && !strings.EqualFold(got, s.SHA256) {
		return fmt.Errorf("its SHA-256 is %s, and not the sha256 of the configuration", got)
	}
	return nil
}

// kept checks that the file that is there can be the one that the server has.
func kept(s config.Source, old memory) error {
	if old == (memory{}) {
		return errors.New("the server says that nothing has changed, but was not asked for changes")
	}
	file, err := os.Open(s.File)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	return compare(s, hash)
}

// count reads a list from its beginning.
func count(file *os.File, how string) (format.Stats, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return format.Stats{}, err
	}
	f, err := format.Parse(how)
	if err != nil {
		return format.Stats{}, err
	}
	return format.Read(file, f, func(format.Entry) error { return nil })
}

// said keeps the first bytes of what is written to it, although more may come.
type said struct{ text []byte }

func (s *said) Write(p []byte) (int, error) {
	const most = 4 << 10
	s.text = append(s.text, p[:min(len(p), most-len(s.text))]...)
	return len(p), nil
}
