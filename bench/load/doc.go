// Package load is the client of the scaling journey: a fixed number of
// keep-alive connections, each of which sends its next request once the last is
// answered (a closed loop), with latencies in HDR histograms.
//
// It shares the cores with what it measures. So it is one loop over epoll a
// thread, as wrk is, instead of a goroutine a connection: a request costs one
// write, one read and a share of an epoll_wait.
//
// Each connection draws its requests from a seed of its own, so that request i
// of connection c is the same whatever is measured and however fast it is.
package load
