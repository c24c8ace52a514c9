package oci

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/big"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRange(t *testing.T) {
	for h, want := range map[string][]RangeSpec{
		"bytes=0-0":                       {{0, 0}},
		"Bytes=0-1":                       {{0, 1}},
		"bytes=0-":                        {{0, -1}},
		"bytes=-5":                        {{-1, 5}},
		"bytes=-0":                        {{-1, 0}},
		"bytes=1-0":                       {beyond},
		"bytes=7-9,-1, 0-\t":              {{7, 9}, {-1, 1}, {0, -1}},
		"bytes=,,1-2,":                    {{1, 2}},
		"bytes=007-0010":                  {{7, 10}},
		"bytes=1-99999999999999999999999": {{1, math.MaxInt64}},

		"": nil, "bytes": nil, "bytes=": nil, "bytes=,": nil, "bytes=-": nil, "bytes=1": nil, "bytes=a-b": nil,
		"bytes=--1": nil, "bytes=1--2": nil, "bytes=+1-2": nil, "bytes=1 -2": nil, "bytes= 1-2,x": nil, "bytes=1-2,3-2": nil,
		"items=0-1": nil, " bytes=0-1": nil, "bytes =0-1": nil, "bytes=0x1-2": nil, "bytes=1.0-2": nil, "bytes=１-2": nil,
		"bytes=0-1" + strings.Repeat(",0-1", maxRanges): nil,
	} {
		if diff := cmp.Diff(want, ParseRange(h)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", h, diff)
		}
	}
	if got := len(ParseRange("bytes=0-1" + strings.Repeat(",0-1", maxRanges-1))); got != maxRanges {
		t.Errorf("got %d ranges, want %d", got, maxRanges)
	}
}

func TestResolveAll(t *testing.T) {
	for _, tc := range []struct {
		header string
		size   int64
		want   []Range
		ok     bool
	}{
		{"bytes=0-0", 10, []Range{{0, 1}}, true},
		{"bytes=0-9", 10, []Range{{0, 10}}, true},
		{"bytes=0-99", 10, []Range{{0, 10}}, true},
		{"bytes=9-", 10, []Range{{9, 10}}, true},
		{"bytes=10-", 10, nil, true},
		{"bytes=10-11", 10, nil, true},
		{"bytes=-3", 10, []Range{{7, 10}}, true},
		{"bytes=-30", 10, []Range{{0, 10}}, true},
		{"bytes=-0", 10, nil, true},
		{"bytes=0-", 0, nil, true},
		{"bytes=-1", 0, nil, true},
		{"bytes=1-99999999999999999999", 10, []Range{{1, 10}}, true},
		{"bytes=-99999999999999999999", 10, []Range{{0, 10}}, true},
		{"bytes=99999999999999999999-", 10, nil, true},
		{"bytes=99999999999999999999-99999999999999999999", math.MaxInt64, nil, true},
		{"bytes=0-1,20-30,8-9", 10, []Range{{0, 2}, {8, 10}}, true},
		{"bytes=0-4,5-9", 10, []Range{{0, 5}, {5, 10}}, true},
		{"bytes=0-5,5-9", 10, nil, false},
		{"bytes=0-,0-", 10, nil, false},
	} {
		got, ok := ResolveAll(ParseRange(tc.header), tc.size)
		if diff := cmp.Diff(tc.want, got); diff != "" || ok != tc.ok {
			t.Errorf("%q of %d: ok %v, want %v (-want +got):\n%s", tc.header, tc.size, ok, tc.ok, diff)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for h, want := range map[string]struct {
		r    Range
		size int64
		ok   bool
	}{
		"bytes 0-0/1":                   {Range{0, 1}, 1, true},
		"bytes 5-9/10":                  {Range{5, 10}, 10, true},
		"bytes 5-9/*":                   {Range{5, 10}, -1, true},
		"bytes */10":                    {Range{}, 10, true},
		"bytes */0":                     {Range{}, 0, true},
		"bytes */*":                     {Range{}, -1, true},
		"bytes 0-9223372036854775805/*": {Range{0, math.MaxInt64 - 1}, -1, true},

		"": {}, "bytes": {}, "bytes 0-1": {}, "bytes 0-1/": {}, "bytes 0-/10": {}, "bytes -1/10": {}, "bytes 9-5/10": {},
		"bytes 5-10/10": {}, "bytes 0-1/x": {}, "bytes 0-1/-1": {}, "items 0-1/2": {}, "bytes=0-1/2": {}, "bytes 0-1/2/3": {},
		"bytes 0-1, 3-4/10": {}, "bytes  0-1/2": {}, "bytes 0-9223372036854775807/*": {},
		"bytes 0-1/99999999999999999999": {}, "bytes */99999999999999999999": {}, "bytes 0-99999999999999999999/*": {},
	} {
		r, size, err := ParseContentRange(h)
		if (err == nil) != want.ok || (want.ok && (r != want.r || size != want.size)) {
			t.Errorf("%q: got %v of %d, %v; want %+v", h, r, size, err, want)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes */10")
	f.Fuzz(func(t *testing.T, h string) {
		r, size, err := ParseContentRange(h)
		switch {
		case err != nil:
			if r != (Range{}) || size != 0 {
				t.Errorf("%q: got %v of %d beside %v", h, r, size, err)
			}
		case size < -1 || r.Off < 0 || r.End < r.Off || (size >= 0 && r.End > size):
			t.Errorf("%q: got %v of %d", h, r, size)
		case r.Len() > 0 && size >= 0:
			if again, n, err := ParseContentRange(r.ContentRange(size)); err != nil || again != r || n != size {
				t.Errorf("%q: %v of %d is read back as %v of %d, %v", h, r, size, again, n, err)
			}
		}
	})
}

// ranges counts the ranges in a header by the grammar of RFC 9110 §14.1.2 and
// §5.6.1: 0 for one that is none.
func ranges(header string) (n int) {
	set, ok := strings.CutPrefix(header, "bytes=")
	for _, elem := range strings.Split(set, ",") {
		m := rangeElement.FindStringSubmatch(elem)
		if m == nil || !ok {
			return 0
		}
		first, ok1 := new(big.Int).SetString(m[2], 10)
		last, ok2 := new(big.Int).SetString(m[3], 10)
		if ok1 && ok2 && last.Cmp(first) < 0 && first.Cmp(big.NewInt(math.MaxInt64)) < 0 {
			return 0
		}
		if m[1] != "" {
			n++
		}
	}
	return n
}

var rangeElement = regexp.MustCompile(`^[ \t]*(([0-9]+)-([0-9]*)|-[0-9]+)?[ \t]*$`)

// What net/http takes for a range and RFC 9110 doesn't: blanks around the
// dash, signs, numbers beyond what it counts with, and -0, which no byte satisfies.
var laxRange = regexp.MustCompile(`[+]|[0-9-]\s+[0-9-]|-\s+(,|$)|(^|[=,]\s*)-\s*0+\s*(,|$)|[0-9]{19}`)

// FuzzRange holds ranges against net/http's ServeContent on the same bytes.
func FuzzRange(f *testing.F) {
	for _, h := range []string{
		"bytes=0-0", "bytes=0-", "bytes=-5", "bytes=5-9,1-2", "bytes=0-4,5-9,10-", "bytes=0-99,0-99", "bytes=,1-2", "bytes=-0",
		"bytes=100-", "bytes=100-,0-1", "bytes=1-0", "bytes= 1 - 2", "bytes=+1-2", "bytes=99999999999999999999-", "bytes=", "items=0-1",
	} {
		f.Add(h, uint8(100))
	}
	f.Fuzz(func(t *testing.T, header string, size uint8) {
		if size == 0 { // no byte, no range; net/http sends "bytes 0--1/0"
			if rs, _ := ResolveAll(ParseRange(header), 0); len(rs) > 0 {
				t.Errorf("%q of nothing: %v", header, rs)
			}
			return
		}
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i)
		}
		status, theirs := served(t, header, content)
		specs := ParseRange(header)
		ours, ok := ResolveAll(specs, int64(size))
		lax := laxRange.MatchString(header)
		if n := ranges(header); (len(specs) != 1 || specs[0] != beyond) && ((specs != nil) != (n > 0 && n <= maxRanges) || (specs != nil && len(specs) != n)) {
			t.Fatalf("%q: read as %v, it has %d ranges", header, specs, n)
		}
		switch {
		case specs == nil: // ignored; net/http answers 416, or sees only half of it
		case !ok:
			if status != http.StatusOK && !lax {
				t.Errorf("%q of %d: too much, net/http answers %d", header, size, status)
			}
		case len(ours) == 0:
			if status != http.StatusRequestedRangeNotSatisfiable && !lax {
				t.Errorf("%q of %d: unsatisfiable, net/http answers %d", header, size, status)
			}
		default:
			if diff := cmp.Diff(theirs, ours); (status != http.StatusPartialContent || diff != "") && !lax {
				t.Errorf("%q of %d: net/http answers %d (-theirs +ours):\n%s", header, size, status, diff)
			}
			for _, r := range ours {
				if r.Off < 0 || r.Off >= r.End || r.End > int64(size) {
					t.Errorf("%q of %d: %v", header, size, r)
				}
			}
		}
	})
}

// served is what net/http serves for a Range header, with every part checked
// against content.
func served(t *testing.T, header string, content []byte) (status int, rs []Range) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("Range", header)
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
	if w.Code != http.StatusPartialContent {
		return w.Code, nil
	}
	part := func(cr string, body []byte) {
		r, size, err := ParseContentRange(cr)
		if err != nil || size != int64(len(content)) || !bytes.Equal(body, content[r.Off:r.End]) || cr != r.ContentRange(size) {
			if !laxRange.MatchString(header) { // it says "bytes 10-9/10" to -0
				t.Errorf("Content-Range %q is read as %v of %d, %v", cr, r, size, err)
			}
			return
		}
		rs = append(rs, r)
	}
	if cr := w.Header().Get("Content-Range"); cr != "" {
		part(cr, w.Body.Bytes())
		return w.Code, rs
	}
	_, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for mr := multipart.NewReader(w.Body, params["boundary"]); ; {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return w.Code, rs
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		part(p.Header.Get("Content-Range"), body)
	}
}
