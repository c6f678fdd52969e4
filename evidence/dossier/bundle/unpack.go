package bundle

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Unpack gives each file of a bundle to a function, by its name below the bundle's directory, in the order of the archive.
// The bundle must have been verified: this checks nothing.
func Unpack(r io.Reader, file func(name string, content io.Reader) error) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return fmt.Errorf("unpack bundle: %w", err)
	}
	defer z.Close()
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack bundle: %w", err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		if err := file(name, t); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}
