// Package ring is a bounded queue that does not allocate, for waiting or recent frames.
//
// Locks, and handling of dropped items, do not belong here.
package ring

// Ring is a queue. The zero value has no capacity; New and Grow add some.
type Ring[T any] struct {
	items   []T
	head, n int // the oldest, and the number of items
}

// New returns a ring with a capacity of n items.
func New[T any](room int) Ring[T] { return Ring[T]{items: make([]T, room)} }

// Len returns the number of items.
func (r *Ring[T]) Len() int { return r.n }

// Room returns the capacity.
func (r *Ring[T]) Room() int { return len(r.items) }

// Full reports whether a Push would drop the oldest item.
func (r *Ring[T]) Full() bool { return r.n == len(r.items) }

// At returns item i; 0 is the oldest. The pointer is valid until the item is dropped. It panics if
// there is no such item.
func (r *Ring[T]) At(i int) *T {
	if i < 0 || i >= r.n {
		panic("ring: index out of range")
	}
	return &r.items[(r.head+i)%len(r.items)]
}

// Push appends a copy of an item, and returns it. If the ring is full, it drops the oldest item.
func (r *Ring[T]) Push(item *T) *T {
	if r.Full() {
		r.Drop()
	}
	r.n++
	last := r.At(r.n - 1)
	*last = *item
	return last
}

// Drop removes the oldest item, which must exist.
func (r *Ring[T]) Drop() {
	_ = r.At(0)
	r.head = (r.head + 1) % len(r.items)
	r.n--
}

// Clear removes all items.
func (r *Ring[T]) Clear() { r.head, r.n = 0, 0 }

// Grow increases the capacity to n items, and keeps the existing ones.
func (r *Ring[T]) Grow(room int) {
	items := make([]T, max(room, len(r.items)))
	n := copy(items, r.items[r.head:min(len(r.items), r.head+r.n)])
	copy(items[n:], r.items[:r.n-n])
	r.items, r.head = items, 0
}
