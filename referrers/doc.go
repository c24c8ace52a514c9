// Package referrers answers the referrers API of the OCI distribution
// specification ("Listing Referrers"): which manifests name this one as their
// subject.
//
// The answer holds what was made here, SOCI indexes, and what the upstream
// lists, signatures and SBOMs for example. What it promises:
//
//   - Exactly one SOCI v1 index is listed, as the first entry: ours when there
//     is one, else the upstream's first. Clients take the first one they see,
//     and remember it.
//   - The upstream is asked for a bounded time, and what it said is kept in
//     rows. Without its answer the list holds what it last said, with a warning,
//     or ours alone; it is never an error, because clients take that as "no
//     such API".
//   - A hosted repository lists what was pushed to it, by the API or under the
//     fallback tag, and what was made here if it has the subject. Of several SOCI
//     v1 indexes that were pushed for one subject it lists the newest, unless there
//     is one that was made here.
//   - Equal lists have equal bytes: entries stand in the order of their
//     digests, behind the SOCI index.
//
// Whether the caller may read the repository is checked before. How the
// upstream is asked, by its API or by the tag schema, is the caller's affair.
package referrers
