package ring

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A ring behaves like a slice whose beginning is removed.
func TestRingBehavesLikeASlice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		room := 1 + rnd.IntN(7)
		r, want := New[int](room), []int{}
		for i := range 100 {
			switch rnd.IntN(12) {
			case 0:
				r.Clear()
				want = want[:0]
			case 1:
				room += rnd.IntN(3)
				r.Grow(room)
			case 2, 3, 4:
				if r.Len() > 0 {
					r.Drop()
					want = want[1:]
				}
			default:
				if got := r.Push(&i); *got != i {
					t.Fatalf("pushed %d, got %d", i, *got)
				}
				want = append(want, i)
				want = want[max(0, len(want)-room):]
			}
			got := []int{}
			for i := range r.Len() {
				got = append(got, *r.At(i))
			}
			if !slices.Equal(got, want) || r.Room() != room || r.Full() != (len(want) == room) {
				t.Fatalf("room %d of %d, full %v: %v, want %v", room, r.Room(), r.Full(), got, want)
			}
		}
	}
}

func TestRingWithoutRoom(t *testing.T) {
	var r Ring[int]
	if !r.Full() || r.Len() != 0 {
		t.Error("the zero ring has room")
	}
	r.Grow(1)
	r.Push(new(int))
	if r.Len() != 1 {
		t.Errorf("%d items", r.Len())
	}
}

func TestRingDoesNotAllocate(t *testing.T) {
	r, item := New[[100]int](10), [100]int{}
	if allocs := testing.AllocsPerRun(100, func() { r.Push(&item) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
