// Package phases runs the growth phases of deploy/phases on loopback with real
// PostgreSQL, real Redis, and the gateway and the user service as they were
// built, for long enough to load them. (The tests of deploy ask each of them
// whether it works; they are in another module, and short.)
//
// A phase is the configuration of its outermost gateway. What else must run is
// listed under x-processes, in the order in which it is started; the name of each
// is the variable by which the phase's files know its address.
package phases
