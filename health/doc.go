// Package health answers "can it go there?", in three parts that know nothing
// of each other:
//
//   - a Checker asks targets on its own, by HTTP, TCP or gRPC (Active);
//   - an Ejector watches what requests come to, and takes targets out for a
//     while (Passive);
//   - a Circuit stops asking what keeps failing (Breaker), for one target or a
//     whole backend.
//
// Rules are told the time and keep no clock. Only Checker.Run has goroutines.
// The state of each part can be handed to its successor (Adopt), so that a
// reload of the configuration does not forget who is sick.
//
// # How one exchange meets them
//
// Before an attempt the proxy asks the circuit of the backend, then leaves out
// targets whose State says unhealthy, whose Member is ejected, or whose circuit
// gives no Ticket. Afterwards it reports the Outcome to each: to the ticket, once,
// even where the exchange was given up, and to the member. All of that is a few
// atomic loads while everything is well; locks are for changes.
//
// # What it promises
//
// A result that is late counts for nothing: a ticket belongs to the state of the
// circuit that gave it. An ejector takes out at most its share of the targets
// (max_ejected), each time for longer; a checker's first answer decides alone, so
// that a gateway does not begin by asking the dead. Checks begin spread over the
// interval, in a bounded number of goroutines, and none outlives Run.
//
// An ejection ends before its time when checks have failed and then, since it
// began, succeeded often enough (healthy_after): a target that was restarted is
// back when it is seen to be well. Where checks were good all along they do not
// see what requests fail by, and the ejection runs its course.
//
// # Sources
//
// The states of a Circuit are Nygard's (Release It!, chapter 5); ejection is
// Envoy's outlier detection, with consecutive failures as its one sign; gRPC is
// asked by grpc.health.v1.
package health
