package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
)

//go:embed report.html
var layout string

//go:embed report.css
var style string

// HTML writes the report as one HTML file. It loads nothing and holds no script; its
// content security policy forbids both. Nothing is written if making it fails.
func HTML(w io.Writer, c *Case) error {
	t, err := template.New("report").Parse(layout)
	if err != nil {
		return fmt.Errorf("read the layout of the report: %w", err)
	}
	hash := sha256.Sum256([]byte(style))
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		*page
		Style  template.CSS
		Policy string
	}{
		newPage(c),
		template.CSS(style),
		"default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'",
	})
	if err != nil {
		return fmt.Errorf("make the report of capture %s: %w", c.Capture.Event.ID, err)
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
