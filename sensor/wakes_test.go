package sensor

import (
	"os"
	"slices"
	"testing"
	"time"
)

// The thawer wakes for each of its descriptors, for their end, and at a deadline; none hides another.
func TestWakes(t *testing.T) {
	t.Parallel()
	pipe := func() (r, w *os.File, fd int) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w, int(r.Fd())
	}
	r1, w1, one := pipe()
	_, w2, two := pipe()
	w, err := newWakes(one, two)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	wakes := func(what string, at time.Time, want ...int) {
		t.Helper()
		got, err := w.until(at)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: woke for %v (%v), want %v", what, got, err, want)
		}
	}
	never, past := time.Time{}, time.Unix(1, 0)

	wakes("nothing comes before the deadline", time.Now().Add(time.Millisecond))
	wakes("the deadline has passed", past)
	if _, err := w1.Write([]byte("xy")); err != nil {
		t.Fatal(err)
	}
	wakes("there is something, and the deadline has passed", past, one)
	wakes("it is still there", never, one)
	w2.Close()
	wakes("the other has ended", never, one, two)
	if _, err := r1.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	wakes("only the end is left", never, two)
	time.AfterFunc(time.Millisecond, func() { w1.Close() })
	for got := []int(nil); len(got) < 2; { // the end comes while it waits, or before
		if got, err = w.until(never); err != nil {
			t.Fatal(err)
		}
	}
}

// It wakes for what comes while it waits.
func TestWakesWhileWaiting(t *testing.T) {
	t.Parallel()
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer out.Close()
	w, err := newWakes(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for range 1000 {
		go out.Write([]byte{0})
		got, err := w.until(time.Time{})
		if err != nil || len(got) != 1 {
			t.Fatalf("woke for %v: %v", got, err)
		}
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}
