package audiotest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Talker is one person who reads aloud, with natural pauses.
func Talker(t testing.TB, n int) []float64 {
	pcm := make([]float64, 0, n)
	said := Recordings(t)
	for i := 0; len(pcm) < n; i++ {
		pcm = append(pcm, AtLevel(Floats(said[6+i%3].PCM), Speech)...)
		pcm = append(pcm, make([]float64, Rate*3/10)...)
	}
	return pcm[:n]
}

// People are four people who talk at the same time.
func People(t testing.TB, n int) []float64 {
	pcm := make([]float64, n)
	said := Recordings(t)
	for person := range 4 {
		var one []float64
		for i := range said {
			one = append(one, AtLevel(Floats(said[(2*person+i)%len(said)].PCM), Speech)...)
			one = append(one, make([]float64, Rate*2/10)...)
		}
		for i := range pcm {
			pcm[i] += one[(i+person*31013)%len(one)]
		}
	}
	return pcm
}

// Television is a talker and a song.
func Television(t testing.TB, n int) []float64 {
	pcm, song := AtLevel(Talker(t, n), Speech), AtLevel(Song(t, n), Speech-6)
	for i := range pcm {
		pcm[i] += song[i]
	}
	return pcm
}

// Song is chords, a melody with vibrato, and a bass, at 100 beats per minute.
func Song(t testing.TB, n int) []float64 {
	return music(t, n, 0.6, [][]float64{{220, 277, 330}, {196, 247, 294}, {175, 220, 262}, {165, 208, 247}}, 0)
}

// Dance is the same with drums, faster.
func Dance(t testing.TB, n int) []float64 {
	return music(t, n, 0.48, [][]float64{{262, 330, 392}, {220, 262, 330}, {175, 220, 262}, {196, 247, 294}}, 1)
}

func music(_ testing.TB, n int, beat float64, chords [][]float64, drums float64) []float64 {
	rnd := rand.New(rand.NewPCG(5, 6))
	pcm := make([]float64, n)
	melody := make([]int, 64)
	for i := range melody {
		melody[i] = rnd.IntN(3)
	}
	for i := range pcm {
		ts := float64(i) / Rate
		count := int(ts / beat)
		within := math.Mod(ts, beat)
		chord := chords[count/4%len(chords)]
		v := 0.0
		for _, f := range chord {
			for k := 1.0; k <= 4; k++ {
				v += 0.25 / k * math.Sin(2*math.Pi*f*k*ts) * math.Exp(-0.7*math.Mod(ts, 4*beat))
			}
		}
		f := 2 * chord[melody[count%len(melody)]]
		for k := 1.0; k <= 5; k++ {
			v += 0.5 / k * math.Sin(2*math.Pi*f*k*ts+2*math.Sin(2*math.Pi*5.5*ts)) * math.Exp(-2*within)
		}
		v += 0.6 * math.Sin(2*math.Pi*chord[0]/2*ts) * math.Exp(-3*within)
		hit := rnd.NormFloat64()
		v += drums * hit * math.Exp(-within*40) * float64(1-count%2)
		v += drums * 0.5 * hit * math.Exp(-math.Mod(ts+beat/2, beat)*90)
		v += drums * 1.5 * math.Sin(2*math.Pi*60*within) * math.Exp(-within*15) * float64(count%2)
		pcm[i] = v
	}
	return pcm
}
