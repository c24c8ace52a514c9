package ztoc

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
)

// TestVTablesShareBytes reads tables whose vtables, of 64 KiB each, lie over one
// another: what is remembered of them must not be more than the buffer.
func TestVTablesShareBytes(t *testing.T) {
	const tables = maxVTables
	buf := bytes.Repeat([]byte{0xfe, 0xff}, 64<<10+tables) // each place says: a vtable of 65534 bytes
	first := len(buf)
	for i := range tables {
		off := first + 4*i
		buf = binary.LittleEndian.AppendUint32(buf, uint32(off-2*i))
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	f := newFBReader(bytes.NewReader(buf), 0, int64(len(buf)))
	f.left = 1 << 40
	before := heap()
	for i := range tables {
		if vt := f.table(int64(first + 4*i)); vt.field(0) != int64(first+4*i+0xfffe) || vt.field(maxFields) != 0 {
			t.Fatalf("table %d has %d fields, %v", i, len(vt.fields), f.err)
		}
	}
	if kept := int64(heap()) - int64(before); kept > 2<<20 {
		t.Errorf("%d bytes are kept of a buffer of %d", kept, len(buf))
	}
	runtime.KeepAlive(f)

	f = newFBReader(bytes.NewReader(buf[first-100:]), 0, int64(len(buf)-first+100))
	binary.LittleEndian.PutUint32(buf[first:], 50)
	if f.table(100); f.err == nil {
		t.Error("a vtable that runs over the end was taken")
	}
}
