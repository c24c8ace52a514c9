// Package learn finds out which spans of an image its starts read, so that they
// can be had before they are asked for: by clients, which find them as prefetch
// artifacts in the image's SOCI index, and here, from the upstream.
//
// A start is what one client reads of one image's layers within a window of
// time behind its first span. Spans that at least half of the starts of a round
// have read are learnt. A start whose client was offered prefetch artifacts
// reads what they name whether it needs it or not, so it does not count: a share
// of the clients is offered the index without them, and what no such start reads
// any more is forgotten after a while. A caller counts once a round, and no start
// that reads nearly all of an image.
//
// What it promises:
//
//   - A request costs the sending of one value on a channel, which never waits:
//     what there is no room for is dropped and counted.
//   - Memory is bounded, and no row is written for a read: a start is filed when
//     it is over.
//   - What was learnt of an image changes once a round at most: spans are added
//     when half of a round's starts read them, and go when nothing confirmed
//     them for so long, so nothing comes and goes.
//   - Equal rows give equal artifacts.
package learn
