// Package storage keeps what the proxy knows: bytes, and rows about them.
//
// Two seams hold them, Blobs and Meta; packages disk and bolt are the first
// implementations and storagetest has the contract that every one passes. Store
// composes the two and is what the rest of the program uses. It keeps one order
// above all: bytes, then sync, then the row; and to remove, the row, then the
// bytes. A row therefore always means "whole, verified and on the medium", and
// whatever a crash leaves behind is bytes without a row: garbage that nobody is
// served and that a sweep deletes.
//
// Between the bytes and the row a blob that may be fetched again (Cached) is
// pending: served already, known only to this process. A background commit
// makes a batch of them durable. What must survive (Durable, and Put) is synced
// and has its row before the call returns.
//
// Room is promised before it is written to, so the limit is never overshot. What was
// read longest ago is evicted ahead of need, in the background; who finds no room
// nonetheless evicts what he needs himself. Blobs that are open, pending
// or arriving stay, and so do manifests, zTOCs and indexes: those, and what hosted
// repositories have, go when a Collector finds that nothing needs them. What is
// purged while it is read goes on counting until it is closed: so long its bytes
// take room.
//
// Locks, in the order in which they may be taken: Partial.filing, Store.evicting,
// queue.busy, a digest's (digests.lock). Who holds a digest's holds no second one
// and never waits for room; only the background commit and the purge of an image
// hold many, which they take in the order of the digests, and eviction and the
// Collector take those that are idle, without waiting. Who has an upload (the
// token in Upload.claim) may take any of these and wait for room; nobody who holds
// one of them waits for an upload. The small mutexes inside digests, partials,
// uploads, an Upload, space and accesses are leaves, and never held across I/O.
package storage
