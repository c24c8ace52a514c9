package storagetest

import (
	"testing"
	"time"

	"github.com/sociable/sociable/storage"
)

func metaLearn(t *testing.T, m storage.Meta) {
	a := storage.LearnRow{Manifest: dig("a"), Starts: 1, Recent: storage.RecentStarts{Starts: 1, Layers: []storage.RecentLayer{
		{Layer: dig("layer"), SpanSize: 1 << 20, Spans: []storage.RecentSpan{{Span: 3, Starts: 1, Millis: 20, Read: 5}}},
	}}}
	b := storage.LearnRow{
		Manifest: dig("b"), Offered: 2, Ignored: 3, Counted: []storage.CountedCaller{{Who: 1<<64 - 1, At: noon.Unix()}}, Set: noon, Confirmed: noon.Add(time.Second), Imported: true,
		Learnt: []storage.LearntLayer{{Layer: dig("layer"), SpanSize: 1 << 20, Spans: []storage.LearntSpan{{Span: 0, Millis: 1, Read: noon.Unix()}}}},
	}
	if b.Manifest < a.Manifest {
		a, b = b, a
	}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutLearn(b), tx.PutLearn(a), tx.DeleteLearn(dig("none")))
	})
	a.Starts = 9
	update(t, m, func(tx storage.Tx) error { return tx.PutLearn(a) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Learn", a)(tx.Learn(a.Manifest))
		checkAbsent[storage.LearnRow](t, "Learn of another manifest")(tx.Learn(dig("none")))
		checkList(t, "AllLearn", tx.AllLearn, a, b)
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return first(tx.DeleteLearn(a.Manifest), tx.DeleteLearn(a.Manifest)) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "AllLearn after one was deleted", tx.AllLearn, b)
		return nil
	})
	update(t, m, func(tx storage.Tx) error { return tx.DeleteManifest(b.Manifest) })
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "AllLearn after its manifest was deleted", tx.AllLearn)
		return nil
	})
}

func metaTaken(t *testing.T, m storage.Meta) {
	nothing := storage.TakenRow{Manifest: dig("a")}
	some := storage.TakenRow{Manifest: dig("b"), Layers: []storage.TakenLayer{{Layer: dig("layer"), SpanSize: 1 << 20, Runs: [][2]int{{0, 0}, {3, 9}}}}}
	update(t, m, func(tx storage.Tx) error { return first(tx.PutTaken(nothing), tx.PutTaken(some)) })
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Taken of nothing", nothing)(tx.Taken(nothing.Manifest))
		checkRow(t, "Taken", some)(tx.Taken(some.Manifest))
		checkAbsent[storage.TakenRow](t, "Taken of another manifest")(tx.Taken(dig("none")))
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteLearn(some.Manifest), tx.DeleteManifest(nothing.Manifest))
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Taken after what was learnt was deleted", some)(tx.Taken(some.Manifest))
		checkAbsent[storage.TakenRow](t, "Taken of a manifest that was deleted")(tx.Taken(nothing.Manifest))
		return nil
	})
}
