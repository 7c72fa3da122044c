// Package interop has gRPC's own client and server talk through the gateway: the
// interop cases of google.golang.org/grpc, and what a gateway adds to them. It is
// a module of its own, so that the gateway does not require gRPC, and has tests
// only. They build the gateway that lies beside it and run it.
package interop
