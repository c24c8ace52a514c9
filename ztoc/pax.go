package ztoc

import (
	"bytes"
	"slices"
	"strconv"
)

// paxRecord is a record of an extended header, with its bytes where they were
// read.
type paxRecord struct{ key, value []byte }

// parsePAX reads the content of an extended header into records, sorted by key,
// of several with one key the last. It reports whether that is in order.
//
// In the oldest way to write sparse files the map is spread over many records
// with the same two keys; they become one.
func parsePAX(content []byte, records []paxRecord) ([]paxRecord, bool) {
	records = records[:0]
	var sparse [][]byte
	for len(content) > 0 {
		r, rest, ok := cutRecord(content)
		if !ok {
			return records, false
		}
		content = rest
		isOffset := string(r.key) == sparseOffset
		if !isOffset && string(r.key) != sparseNumBytes {
			records = append(records, r)
			continue
		}
		if isOffset != (len(sparse)%2 == 0) || bytes.IndexByte(r.value, ',') >= 0 {
			return records, false
		}
		sparse = append(sparse, r.value)
	}
	if len(sparse) > 0 {
		records = append(records, paxRecord{[]byte(sparseMap), bytes.Join(sparse, []byte(","))})
	}
	return sortRecords(records), true
}

// sortRecords sorts by key and keeps the last of each.
func sortRecords(records []paxRecord) []paxRecord {
	slices.SortStableFunc(records, func(a, b paxRecord) int { return bytes.Compare(a.key, b.key) })
	n := 0
	for i, r := range records {
		if i+1 < len(records) && bytes.Equal(r.key, records[i+1].key) {
			continue
		}
		records[n] = r
		n++
	}
	return records[:n]
}

// cutRecord reads a record, "LENGTH KEY=VALUE\n", off the front of p.
func cutRecord(p []byte) (r paxRecord, rest []byte, ok bool) {
	digits, after, ok := bytes.Cut(p, []byte(" "))
	if !ok {
		return r, nil, false
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || n < 5 || n > int64(len(p)) {
		return r, nil, false
	}
	n -= int64(len(digits) + 1)
	if n <= 0 || after[n-1] != '\n' {
		return r, nil, false
	}
	r.key, r.value, ok = bytes.Cut(after[:n-1], []byte("="))
	if !ok || len(r.key) == 0 {
		return r, nil, false
	}
	text := r.key
	switch string(r.key) {
	case "path", "linkpath", "uname", "gname":
		text = r.value
	}
	return r, after[n:], bytes.IndexByte(text, 0) < 0
}

// The keys of sparse files.
const (
	sparseOffset    = "GNU.sparse.offset"
	sparseNumBytes  = "GNU.sparse.numbytes"
	sparseMap       = "GNU.sparse.map"
	sparseNumBlocks = "GNU.sparse.numblocks"
	sparseName      = "GNU.sparse.name"
	sparseMajor     = "GNU.sparse.major"
	sparseMinor     = "GNU.sparse.minor"
	sparseSize      = "GNU.sparse.size"
	sparseRealSize  = "GNU.sparse.realsize"
)

// sparseForm is how the map of a sparse file is written.
type sparseForm int

const (
	notSparse  sparseForm = iota
	mapInPAX              // versions 0.0 and 0.1
	mapInFront            // version 1.0: in front of the data
)

// find gives the value of a key, nil if there is none.
func find(records []paxRecord, key string) []byte {
	for _, r := range records {
		if string(r.key) == key {
			return r.value
		}
	}
	return nil
}

// sparseFormOf tells by the records whether the file is sparse, and how.
func sparseFormOf(records []paxRecord) sparseForm {
	major, minor := string(find(records, sparseMajor)), string(find(records, sparseMinor))
	switch {
	case major == "0" && (minor == "0" || minor == "1"):
		return mapInPAX
	case major == "1" && minor == "0":
		return mapInFront
	case major == "" && minor == "" && len(find(records, sparseMap)) > 0:
		return mapInPAX
	}
	return notSparse
}

// applySparse gives the header the sparse file's own name and size.
func (h *tarHeader) applySparse(records []paxRecord) bool {
	if name := find(records, sparseName); len(name) > 0 {
		h.name = name
	}
	size := find(records, sparseSize)
	if len(size) == 0 {
		size = find(records, sparseRealSize)
	}
	if len(size) == 0 {
		return true
	}
	var ok bool
	h.size, ok = parseDecimal(size)
	return ok
}

// sparseSpan is a part of a sparse file that has bytes.
type sparseSpan struct{ off, size int64 }

// parseSparse reads the map of a version 0 file.
func parseSparse(records []paxRecord) ([]sparseSpan, bool) {
	n, ok := parseDecimal(find(records, sparseNumBlocks))
	if !ok || n < 0 || n > maxSpecial {
		return nil, false
	}
	var fields [][]byte
	if m := find(records, sparseMap); len(m) > 0 {
		fields = bytes.Split(m, []byte(","))
	}
	if int64(len(fields)) != 2*n {
		return nil, false
	}
	return pairs(fields)
}

// pairs reads offsets and sizes in turn.
func pairs(fields [][]byte) ([]sparseSpan, bool) {
	spans := make([]sparseSpan, len(fields)/2)
	for i := range spans {
		var ok1, ok2 bool
		spans[i].off, ok1 = parseDecimal(fields[2*i])
		spans[i].size, ok2 = parseDecimal(fields[2*i+1])
		if !ok1 || !ok2 {
			return nil, false
		}
	}
	return spans, true
}

// validSparse sees that the parts follow one another inside the file.
func validSparse(spans []sparseSpan, size int64) bool {
	end := int64(0)
	for _, s := range spans {
		if s.off < end || s.size < 0 || s.off > 1<<63-1-s.size || s.off+s.size > size {
			return false
		}
		end = s.off + s.size
	}
	return size >= 0
}
