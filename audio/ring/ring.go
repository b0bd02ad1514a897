// Package ring is a queue of bounded size that does not allocate: of frames that
// wait, or of the newest of what was.
//
// What must not live here: locks, and what it means that something was dropped.
package ring

// Ring is a queue. The zero value has no room; New and Grow make some.
type Ring[T any] struct {
	items   []T
	head, n int // the oldest, and how many there are
}

// New returns a ring with room for so many items.
func New[T any](room int) Ring[T] { return Ring[T]{items: make([]T, room)} }

// Len is how many items there are.
func (r *Ring[T]) Len() int { return r.n }

// Room is how many items there can be.
func (r *Ring[T]) Room() int { return len(r.items) }

// Full tells whether a Push would drop the oldest item.
func (r *Ring[T]) Full() bool { return r.n == len(r.items) }

// At returns item i; 0 is the oldest. It is valid until that item is dropped, and
// panics where there is none.
func (r *Ring[T]) At(i int) *T {
	if i < 0 || i >= r.n {
		panic("ring: index out of range")
	}
	return &r.items[(r.head+i)%len(r.items)]
}

// Push appends a copy of an item, and returns it. It drops the oldest one where
// there is no room.
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

// Grow makes room for so many items, and keeps those that there are.
func (r *Ring[T]) Grow(room int) {
	items := make([]T, max(room, len(r.items)))
	n := copy(items, r.items[r.head:min(len(r.items), r.head+r.n)])
	copy(items[n:], r.items[:r.n-n])
	r.items, r.head = items, 0
}
