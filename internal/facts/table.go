package facts

import (
	"fmt"
	"strings"
)

// TableError says that a row of an embedded table is malformed.
type TableError struct {
	// Table is the name of the file, Line its line, from 1.
	Table string
	Line  int
	// Detail says what is wrong.
	Detail string
}

// Error implements error.
func (e *TableError) Error() string {
	return fmt.Sprintf("%s:%d: %s", e.Table, e.Line, e.Detail)
}

// row is one line of a table, its cells in the order of the columns asked for.
type row struct {
	table string
	line  int
	cells []string
}

// fail says what is wrong with the row.
func (r row) fail(format string, arguments ...any) error {
	return &TableError{Table: r.table, Line: r.line, Detail: fmt.Sprintf(format, arguments...)}
}

// parse splits a table of tab-separated values whose first line must name
// exactly these columns. Cells have no quoting: a tab cannot be part of one.
func parse(table, text string, columns ...string) ([]row, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	header := row{table: table, line: 1}
	if want := strings.Join(columns, "\t"); lines[0] != want {
		return nil, header.fail("the columns are %q, want %q", lines[0], want)
	}
	rows := make([]row, 0, len(lines)-1)
	for index, line := range lines[1:] {
		r := row{table: table, line: index + 2, cells: strings.Split(line, "\t")}
		if len(r.cells) != len(columns) {
			return nil, r.fail("%d cells, want %d", len(r.cells), len(columns))
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// each turns the rows of a table into values.
func each[T any](rows []row, build func(row) (T, error)) ([]T, error) {
	values := make([]T, 0, len(rows))
	for _, r := range rows {
		value, err := build(r)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}
