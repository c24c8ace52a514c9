package proxy

import (
	"container/list"
	"sync"
)

// lru keeps what was used last, up to a sum of costs. It is safe for
// concurrent use; values are shared and must not be changed.
type lru[K comparable, V any] struct {
	mu   sync.Mutex
	max  int64
	cost func(V) int64
	sum  int64
	use  *list.List // of *lruEntry[K, V], last used first
	by   map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key K
	val V
}

func newLRU[K comparable, V any](maxCost int64, cost func(V) int64) *lru[K, V] {
	return &lru[K, V]{max: maxCost, cost: cost, use: list.New(), by: map[K]*list.Element{}}
}

// one is the cost where entries are counted.
func one[V any](V) int64 { return 1 }

func (c *lru[K, V]) get(k K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[k]
	if e == nil {
		return v, false
	}
	c.use.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).val, true
}

// put replaces what is there, and drops what was not used for longest; it gives
// both.
func (c *lru[K, V]) put(k K, v V) (old []V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old = c.dropLocked(c.by[k], old)
	c.by[k] = c.use.PushFront(&lruEntry[K, V]{k, v})
	c.sum += c.cost(v)
	for c.sum > c.max {
		old = c.dropLocked(c.use.Back(), old)
	}
	return old
}

func (c *lru[K, V]) drop(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(c.by[k], nil)
}

// clear drops and gives all.
func (c *lru[K, V]) clear() (old []V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.use.Len() > 0 {
		old = c.dropLocked(c.use.Back(), old)
	}
	return old
}

// dropLocked drops e, if any, and appends it to old.
func (c *lru[K, V]) dropLocked(e *list.Element, old []V) []V {
	if e == nil {
		return old
	}
	x := c.use.Remove(e).(*lruEntry[K, V])
	delete(c.by, x.key)
	c.sum -= c.cost(x.val)
	return append(old, x.val)
}
