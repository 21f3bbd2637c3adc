package bench

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table prints rows as a Markdown table whose columns are aligned in a terminal,
// too: the first to the left, figures to the right.
type Table struct {
	rows [][]string
}

// NewTable begins with the head.
func NewTable(head ...string) *Table { return &Table{rows: [][]string{head}} }

// Row adds a row; it has as many cells as the head.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// Write prints the table.
func (t *Table) Write(w io.Writer) {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	for r, row := range t.rows {
		line := "|"
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line += " " + cell + space + " |"
			} else {
				line += " " + space + cell + " |"
			}
		}
		fmt.Fprintln(w, line)
		if r > 0 {
			continue
		}
		line = "| " + strings.Repeat("-", widths[0]) + " |"
		for _, width := range widths[1:] {
			line += " " + strings.Repeat("-", width-1) + ": |"
		}
		fmt.Fprintln(w, line)
	}
}
