// Package events tells other programs what happens here: notifications in the
// form that the distribution project's registry sends, to any number of HTTP
// endpoints.
//
// An event waits in a queue of its endpoint, a row each, until the endpoint
// answers 2xx. So it is told at least once, whatever process or machine does not
// survive it, and in the order in which it happened. An endpoint that is away
// keeps nobody waiting: neither those who make events, nor other endpoints.
//
//   - Pushes, deletes, evictions and what the indexer does are filed in the
//     transaction that they tell about: both are kept, or neither.
//   - Pulls cost a read nothing: they are gathered in memory and filed about once
//     a second. A crash loses those of the last moment.
//   - The queue of an endpoint is bounded for pulls and evictions, which are
//     dropped, counted and logged beyond it. The rest is never dropped: it cannot
//     grow faster than people push.
package events
