package ztoc

import (
	"bytes"
	"slices"
)

// paxRecord is where a record of an extended header lies: the key, a byte, the
// value.
type paxRecord struct{ key, value, end uint32 }

// paxRecords are the records of an extended header. An extended header of 1 MiB
// may have 200,000 of them.
type paxRecords struct {
	buf  []byte
	list []paxRecord
}

func (p *paxRecords) key(i int) []byte   { return p.buf[p.list[i].key : p.list[i].value-1] }
func (p *paxRecords) value(i int) []byte { return p.buf[p.list[i].value:p.list[i].end] }

// clear forgets the records.
func (p *paxRecords) clear() { p.list = p.list[:0] }

// find gives the value of a key, nil if there is none.
func (p *paxRecords) find(key string) []byte {
	for i := range p.list {
		if string(p.key(i)) == key {
			return p.value(i)
		}
	}
	return nil
}

// parse reads the content of an extended header, which is the records' from then
// on. They are sorted by key; of several with one key there is the last. It
// reports whether they are in order.
//
// In the oldest way to write sparse files the map is spread over many records
// with the same two keys; they become one.
func (p *paxRecords) parse(content []byte) bool {
	p.buf = content
	p.list = slices.Grow(p.list[:0], bytes.Count(content, []byte("\n"))+1)
	at, n := 0, len(content)
	sparse := 0
	for at < n {
		r, next, ok := cutRecord(content[:n], at)
		if !ok {
			return false
		}
		at = next
		key, value := content[r.key:r.value-1], content[r.value:r.end]
		isOffset := string(key) == sparseOffset
		if !isOffset && string(key) != sparseNumBytes {
			p.list = append(p.list, r)
			continue
		}
		if isOffset != (sparse%2 == 0) || bytes.IndexByte(value, ',') >= 0 {
			return false
		}
		// The one record is put together behind the others.
		if sparse == 0 {
			p.buf = append(p.buf, sparseMap+"="...)
		} else {
			p.buf = append(p.buf, ',')
		}
		p.buf = append(p.buf, value...)
		sparse++
	}
	if sparse > 0 {
		p.list = append(p.list, paxRecord{uint32(n), uint32(n + len(sparseMap) + 1), uint32(len(p.buf))})
	}
	p.sort()
	return true
}

// sort sorts by key and keeps the last of each.
func (p *paxRecords) sort() {
	slices.SortStableFunc(p.list, func(a, b paxRecord) int {
		return bytes.Compare(p.buf[a.key:a.value-1], p.buf[b.key:b.value-1])
	})
	n := 0
	for i, r := range p.list {
		if i+1 < len(p.list) && bytes.Equal(p.key(i), p.key(i+1)) {
			continue
		}
		p.list[n] = r
		n++
	}
	p.list = p.list[:n]
}

// cutRecord reads the record at p[at:], "LENGTH KEY=VALUE\n", and tells where it
// ends.
func cutRecord(p []byte, at int) (r paxRecord, next int, ok bool) {
	digits := bytes.IndexByte(p[at:], ' ')
	if digits < 0 {
		return r, 0, false
	}
	n, ok := parseDecimal(p[at : at+digits])
	if !ok || n < 5 || n > int64(len(p)-at) {
		return r, 0, false
	}
	key, next := at+digits+1, at+int(n)
	if next <= key || p[next-1] != '\n' {
		return r, 0, false
	}
	length := bytes.IndexByte(p[key:next-1], '=')
	if length <= 0 {
		return r, 0, false
	}
	r = paxRecord{uint32(key), uint32(key + length + 1), uint32(next - 1)}
	text := p[r.key : r.value-1]
	switch string(text) {
	case "path", "linkpath", "uname", "gname":
		text = p[r.value:r.end]
	}
	return r, next, bytes.IndexByte(text, 0) < 0
}
