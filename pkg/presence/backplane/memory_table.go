package backplane

import (
	"container/heap"
	"time"
)

// table contains rows until they expire. It has no lock and no clock: its methods receive the
// current time.
type table struct {
	limit  int
	rows   map[string]*tableRow
	byTime rowHeap
}

type tableRow struct {
	Row
	index int // in table.byTime
}

func newTable(limit int) table { return table{limit: limit, rows: map[string]*tableRow{}} }

// put stores a row and replaces any row with the same key. If the key is new and the table is full,
// put stores nothing and returns false.
func (t *table) put(r Row) bool {
	if old := t.rows[r.Key]; old != nil {
		old.Row = r
		heap.Fix(&t.byTime, old.index)
		return true
	}
	if len(t.rows) >= t.limit {
		return false
	}
	row := &tableRow{Row: r}
	t.rows[r.Key] = row
	heap.Push(&t.byTime, row)
	return true
}

// remove deletes the row with the given key and reports whether the row existed.
func (t *table) remove(key string) bool {
	row := t.rows[key]
	if row == nil {
		return false
	}
	delete(t.rows, key)
	heap.Remove(&t.byTime, row.index)
	return true
}

// expired removes the row that expired first and returns its key. ok is false if no row has
// expired.
func (t *table) expired(now time.Time) (key string, ok bool) {
	if len(t.byTime) == 0 || now.Before(t.byTime[0].Expires) {
		return "", false
	}
	key = t.byTime[0].Key
	return key, t.remove(key)
}

func (t *table) all() []Row {
	rows := make([]Row, 0, len(t.rows))
	for _, row := range t.byTime {
		rows = append(rows, row.Row)
	}
	return rows
}

// due returns when the next row expires, or the zero time if there is no row.
func (t *table) due() time.Time {
	if len(t.byTime) == 0 {
		return time.Time{}
	}
	return t.byTime[0].Expires
}

// rowHeap implements [heap.Interface]. The row that expires first is at index 0.
type rowHeap []*tableRow

func (h rowHeap) Len() int           { return len(h) }
func (h rowHeap) Less(i, j int) bool { return h[i].Expires.Before(h[j].Expires) }

func (h rowHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *rowHeap) Push(x any) {
	row := x.(*tableRow)
	row.index = len(*h)
	*h = append(*h, row)
}

func (h *rowHeap) Pop() any {
	last := len(*h) - 1
	row := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return row
}
