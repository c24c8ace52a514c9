package storagetest

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/storage"
)

func metaConversions(t *testing.T, m storage.Meta) {
	row := func(source digest.Digest, repo oci.Repo) storage.ConversionRow {
		return storage.ConversionRow{
			Repo: repo, Source: v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: source, Size: 5},
			Platforms: []string{"linux/amd64"}, Settings: "s", Index: descriptor("converted"),
			Made: []storage.MadeBlob{{Digest: dig("made"), Of: dig("of")}}, Created: noon,
		}
	}
	a, b, c := row(dig("s"), repoA), row(dig("s"), repoB), row(dig512("s"), repoD)
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutConversion(c), tx.PutConversion(b), tx.PutConversion(a), tx.PutConversion(a))
	})
	of := func(tx storage.Tx, d digest.Digest) func(func(storage.ConversionRow) error) error {
		return func(fn func(storage.ConversionRow) error) error { return tx.Conversions(d, fn) }
	}
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Conversion", a)(tx.Conversion(dig("s"), repoA))
		checkAbsent[storage.ConversionRow](t, "Conversion in another repository")(tx.Conversion(dig("s"), repoC))
		checkList(t, "Conversions", of(tx, dig("s")), a, b)
		checkList(t, "AllConversions", tx.AllConversions, a, b, c)
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteConversion(dig("s"), repoA), tx.DeleteConversion(dig("s"), repoA))
	})
	view(t, m, func(tx storage.Tx) error {
		checkAbsent[storage.ConversionRow](t, "Conversion, deleted")(tx.Conversion(dig("s"), repoA))
		checkList(t, "AllConversions after changes", tx.AllConversions, b, c)
		return nil
	})
}

func metaConvertedTags(t *testing.T, m storage.Meta) {
	row := func(repo oci.Repo, tag string) storage.ConvertedTagRow {
		return storage.ConvertedTagRow{Repo: repo, Tag: tag, Source: dig("s"), Index: dig("i"), Set: noon}
	}
	a, b, c := row(repoA, "1"), row(repoA, "1.2"), row(repoB, "1")
	r := storage.RetiredRow{Digest: dig("r"), Since: noon}
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutConvertedTag(c), tx.PutConvertedTag(b), tx.PutConvertedTag(a), tx.PutRetired(r))
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "ConvertedTag", a)(tx.ConvertedTag(repoA, "1"))
		checkAbsent[storage.ConvertedTagRow](t, "ConvertedTag of another")(tx.ConvertedTag(repoC, "1"))
		checkList(t, "ConvertedTags", tx.ConvertedTags, a, b, c)
		checkList(t, "Retired", tx.Retired, r)
		return nil
	})
	update(t, m, func(tx storage.Tx) error {
		return first(tx.DeleteConvertedTag(repoA, "1"), tx.DeleteConvertedTag(repoA, "1"),
			tx.DeleteRetired(r.Digest), tx.DeleteRetired(r.Digest))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "ConvertedTags after changes", tx.ConvertedTags, b, c)
		checkList(t, "Retired after changes", tx.Retired)
		return nil
	})
}

func metaTasks(t *testing.T, m storage.Meta) {
	task := func(kind storage.TaskKind, repo oci.Repo, ref string, priority int, created time.Time) storage.TaskRow {
		return storage.TaskRow{
			Kind: kind, Repo: repo, Reference: ref, Priority: priority, Created: created,
			Attempts: 1, NotBefore: noon, LastError: "x", Platforms: []string{"linux/amd64"},
		}
	}
	rows := []storage.TaskRow{
		task(storage.TaskImage, repoA, "late but urgent", 1<<31-1, noon.Add(time.Hour)),
		task(storage.TaskConvert, repoB, "1", 1, noon),
		task(storage.TaskImage, repoA, "1", 0, noon),
		task(storage.TaskImage, repoB, "1", 0, noon.Add(1)),
		task(storage.TaskCatalog, oci.Repo{Upstream: "a", Name: "**"}, "", -5, time.Time{}),
	}
	update(t, m, func(tx storage.Tx) error {
		for _, i := range []int{3, 1, 4, 0, 2, 2} {
			if err := tx.PutTask(rows[i]); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, m, func(tx storage.Tx) error {
		checkRow(t, "Task", rows[2])(tx.Task(storage.TaskImage, repoA, "1"))
		checkAbsent[storage.TaskRow](t, "Task of another kind")(tx.Task(storage.TaskPush, repoA, "1"))
		checkList(t, "Tasks", tx.Tasks, rows...)
		return nil
	})
	urgent := rows[3]
	urgent.Priority = 2
	update(t, m, func(tx storage.Tx) error {
		return first(tx.PutTask(urgent), tx.DeleteTask(storage.TaskImage, repoA, "1"), tx.DeleteTask(storage.TaskImage, repoA, "1"))
	})
	view(t, m, func(tx storage.Tx) error {
		checkList(t, "Tasks after changes", tx.Tasks, rows[0], urgent, rows[1], rows[4])
		return nil
	})
}
