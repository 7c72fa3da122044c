package load

import (
	"math"
	"math/rand/v2"
)

// A Zipf draws ranks 1 to n, rank k in proportion to k^-s, for any s > 0 other
// than 1; math/rand's wants s > 1. It is rejection-inversion (Hörmann and
// Derflinger, "Rejection-inversion to generate variates from monotone discrete
// distributions", 1996): exact, without a table, about 1.1 tries a draw.
type Zipf struct {
	n    uint64
	q    float64 // 1 - s
	x1   float64 // integral from where rank 1 begins
	xn   float64 // and to where rank n ends
	sure float64 // no nearer to its rank than this is refused
	s    float64
}

// NewZipf is a distribution over n ranks, n at least 1.
func NewZipf(n uint64, s float64) *Zipf {
	z := &Zipf{n: n, q: 1 - s, s: s}
	z.x1 = z.integral(1.5) - 1
	z.xn = z.integral(float64(n) + 0.5)
	z.sure = 2 - z.inverse(z.integral(2.5)-z.weight(2))
	return z
}

func (z *Zipf) weight(x float64) float64   { return math.Exp(-z.s * math.Log(x)) }
func (z *Zipf) integral(x float64) float64 { return math.Expm1(z.q*math.Log(x)) / z.q }
func (z *Zipf) inverse(y float64) float64  { return math.Exp(math.Log1p(y*z.q) / z.q) }

// Rank draws one.
func (z *Zipf) Rank(r *rand.PCG) uint64 {
	for {
		u := z.xn + float64(r.Uint64()>>11)/(1<<53)*(z.x1-z.xn)
		x := z.inverse(u)
		k := min(max(math.Floor(x+0.5), 1), float64(z.n))
		if k-x <= z.sure || u >= z.integral(k+0.5)-z.weight(k) {
			return uint64(k)
		}
	}
}

// Share is how often rank k is drawn, by the definition: a sum over all ranks.
// For tests and for reports; it takes as long as n is large.
func Share(n uint64, s float64, ranks ...uint64) []float64 {
	sum := 0.0
	for k := n; k >= 1; k-- { // the small ones first, or they are lost
		sum += math.Pow(float64(k), -s)
	}
	shares := make([]float64, len(ranks))
	for i, k := range ranks {
		shares[i] = math.Pow(float64(k), -s) / sum
	}
	return shares
}
