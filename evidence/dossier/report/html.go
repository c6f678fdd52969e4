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
	t, err := parse()
	if err != nil {
		return err
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

// Body returns the report as a part of another page, which has [Style] in its style sheet. line is where that shows
// the line of a trace with an id.
func Body(c *Case, line func(trace string, number int64) string) (template.HTML, error) {
	t, err := parse()
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "body", newPage(c).linked(line)); err != nil {
		return "", fmt.Errorf("make the report of capture %s: %w", c.Capture.Event.ID, err)
	}
	return template.HTML(b.String()), nil // html/template has escaped it
}

// Style is the style sheet of a report.
func Style() string { return style }

func parse() (*template.Template, error) {
	t, err := template.New("report").Parse(layout)
	if err != nil {
		return nil, fmt.Errorf("read the layout of the report: %w", err)
	}
	return t, nil
}
