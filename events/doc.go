// Package events tells other programs what happens here: notifications in the
// form that the distribution project's registry sends, to any number of HTTP
// endpoints.
//
// An event waits in a queue of its endpoint, a row each, until the endpoint
// answers 2xx. So it is told at least once, whatever process or machine does not
// survive it, and in the order in which it happened. An endpoint that is away
// keeps nobody waiting: neither those who make events, nor other endpoints.
//
// An endpoint that does not answer, or answers 408, 425, 429 or 5xx, is asked again
// for as long as it takes; so is one that answers as if its address or credentials
// were wrong, which is logged as such. 400, 413 and 422 are about the event: the one
// that is refused is found by sending fewer, repeated for Endpoint.RefusedFor, and
// then set aside, in a queue of its own, so that the others go on.
//
//   - Pushes, deletes, evictions and what the indexer does are filed in the
//     transaction that they tell about: both are kept, or neither.
//   - Pulls cost a read nothing: they are gathered in memory and filed about once
//     a second. A crash loses those of the last moment.
//   - The queue of an endpoint is bounded for pulls and evictions, which are
//     dropped, counted and logged beyond it. The rest is never dropped: it cannot
//     grow faster than people push.
package events
