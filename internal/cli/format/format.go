// Package format writes what commands show: tables, Go templates with Docker's
// functions, JSON, sizes and times as people read them, and the progress of a
// pull.
//
// A list is a slice of rows: values whose methods without arguments are their
// fields. A template calls them ({{.Names}}), JSON has them all, and a table
// shows the columns that its template names. So each list is written once, as a
// type with methods, and shown in any form.
package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"

	"lade/internal/errdefs"
)

// Table says how a list is shown: what the person asked for, and how it looks
// otherwise.
type Table struct {
	Format  string            // the --format flag: "", table, json, "table TEMPLATE" or a template
	Default string            // the template of the table
	Headers map[string]string // the heading for each field
	Quiet   bool              // only the field named by Key
	Key     string
}

// Row is a line of a list. Its other methods, those that take nothing and return
// one value, are its fields.
type Row interface {
	IsRow()
}

// Write shows rows.
func Write[R Row](w io.Writer, t Table, rows []R) error {
	out := make([]any, len(rows))
	for i, r := range rows {
		out[i] = r
	}
	return t.write(w, out) // what is generic is there once for each kind of row
}

func (t Table) write(w io.Writer, rows []any) error {
	columns, table := strings.CutPrefix(t.Format, "table")
	switch {
	case t.Quiet && (t.Format == "" || t.Format == "table"):
		return t.lines(w, "{{."+t.Key+"}}", rows)
	case t.Format == "json":
		return t.lines(w, "{{json .}}", rows)
	case t.Format == "" || t.Format == "table":
		return t.table(w, t.Default, rows)
	case table: // with or without a blank, as in Docker
		return t.table(w, strings.TrimSpace(columns), rows)
	}
	return t.lines(w, t.Format, rows)
}

// lines writes one line for each row.
func (t Table) lines(w io.Writer, text string, rows []any) error {
	tmpl, err := Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, r := range rows {
		if err := execute(&b, tmpl, r); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	_, err = w.Write(b.Bytes())
	return err
}

// table writes a heading and aligned columns.
func (t Table) table(w io.Writer, text string, rows []any) error {
	tmpl, err := Parse(text)
	if err != nil {
		return err
	}
	heading, err := headingTemplate(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	// Docker's widths, which scripts have come to cut by.
	tw := tabwriter.NewWriter(&b, 10, 1, 3, ' ', 0)
	if err := execute(tw, heading, Heading(t.Headers)); err != nil {
		return err
	}
	_, _ = io.WriteString(tw, "\n")
	for _, r := range rows {
		if err := execute(tw, tmpl, r); err != nil {
			return err
		}
		_, _ = io.WriteString(tw, "\n")
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

// Heading gives a template the headings in place of the fields.
type Heading map[string]string

// Label is the heading of a column {{.Label "name"}}.
func (h Heading) Label(name string) string {
	name = name[strings.LastIndexByte(name, '.')+1:]
	return strings.ToUpper(strings.NewReplacer("-", " ", "_", " ").Replace(name))
}

// escapes are what a shell leaves of \t and \n between quotes.
var escapes = strings.NewReplacer(`\t`, "\t", `\n`, "\n")

// field is what a template that cannot be executed complains about.
var field = regexp.MustCompile(`at <(.*?)>: (.*)$`)

// Parse parses a template with Docker's functions.
func Parse(text string) (*template.Template, error) {
	return parse(text, functions())
}

// headingTemplate parses a table's template for its heading, in which functions
// that take a value apart do nothing.
func headingTemplate(text string) (*template.Template, error) {
	f := functions()
	for _, name := range []string{"json", "lower", "upper", "title", "pad", "split", "join", "truncate"} {
		f[name] = func(v any, _ ...any) any { return v }
	}
	// The list comes last in {{join .Names ","}} and first in none.
	return parse(text, f)
}

func parse(text string, f template.FuncMap) (*template.Template, error) {
	tmpl, err := template.New("").Funcs(f).Parse(escapes.Replace(text))
	if err != nil {
		msg := strings.TrimPrefix(err.Error(), "template: ")
		err := errdefs.New(errdefs.Invalid, "parse template %q: %s", text, msg)
		return nil, errdefs.Hint(err, "use a Go template such as '{{.ID}}', table or json")
	}
	return tmpl, nil
}

func execute(w io.Writer, tmpl *template.Template, v any) error {
	err := tmpl.Execute(w, v)
	if err == nil {
		return nil
	}
	if m := field.FindStringSubmatch(err.Error()); m != nil {
		return errdefs.New(errdefs.Invalid, "template: %s: %s", m[1], m[2])
	}
	return errdefs.New(errdefs.Invalid, "template: %w", err)
}

// functions are those of Docker's templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":     jsonOf,
		"split":    strings.Split,
		"join":     strings.Join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
	}
}

func jsonOf(v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if r, ok := v.(Row); ok {
		v = Fields(r)
	}
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// Fields returns a row's fields by their names.
func Fields(r Row) map[string]any {
	rv := reflect.ValueOf(r)
	fields := map[string]any{}
	for i := range rv.NumMethod() {
		m := rv.Method(i)
		if m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
			fields[rv.Type().Method(i).Name] = m.Call(nil)[0].Interface()
		}
	}
	return fields
}

func title(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

// widest is how many blanks pad adds at most: nobody's terminal is as wide.
const widest = 10000

func pad(s string, prefix, suffix int) (string, error) {
	if s == "" {
		return s, nil
	}
	if max(prefix, suffix) > widest {
		return "", errdefs.New(errdefs.Invalid, "pad: %d blanks are too many, at most %d", max(prefix, suffix), widest)
	}
	return strings.Repeat(" ", max(0, prefix)) + s + strings.Repeat(" ", max(0, suffix)), nil
}

func truncate(s string, length int) string {
	if r := []rune(s); len(r) > length {
		return string(r[:max(0, length)])
	}
	return s
}

// Ellipsis shortens s to length characters, the last of them "…" if some had to
// go.
func Ellipsis(s string, length int) string {
	r := []rune(s)
	if len(r) <= length {
		return s
	}
	if length <= 1 {
		return string(r[:max(0, length)])
	}
	return string(r[:length-1]) + "…"
}

// Object shows one object, or many, as `inspect` does: each is its JSON as the
// engine sent it, or what a template makes of it. A template sees the typed
// value first, whose fields are Go's ({{.ID}}), and the JSON's names second
// ({{.Id}}).
func Object(w io.Writer, text string, raw json.RawMessage, typed any) error {
	if text == "json" {
		text = "{{json .}}"
	}
	tmpl, err := Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	first := json.Unmarshal(raw, typed)
	if first == nil {
		first = execute(&b, tmpl.Option("missingkey=zero"), typed)
	}
	if first != nil {
		b.Reset()
		var plain any
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&plain); err != nil {
			return fmt.Errorf("decode object: %w", err)
		}
		if err := execute(&b, tmpl.Option("missingkey=error"), plain); err != nil {
			return errdefs.Hint(err, "see the names without --format")
		}
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// Array writes objects as an indented JSON array.
func Array(w io.Writer, objects []json.RawMessage) error {
	if objects == nil {
		objects = []json.RawMessage{}
	}
	text, err := json.Marshal(objects)
	if err != nil {
		return fmt.Errorf("encode objects: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "    "); err != nil {
		return fmt.Errorf("indent objects: %w", err)
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// Value shows one value by a template, or as JSON.
func Value(w io.Writer, text string, v any) error {
	if text == "json" {
		text = "{{json .}}"
	}
	tmpl, err := Parse(text)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := execute(&b, tmpl, v); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}
