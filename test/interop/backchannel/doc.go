// Package backchannel speaks the protocol of Gitaly's heavy clients (Workhorse, gitlab-shell, Praefect), both ends
// of it, on grpc-go and hashicorp/yamux as Gitaly itself does.
//
// A client starts with the 11 bytes "backchannel" and then speaks yamux. The first yamux stream carries its gRPC
// connection. The server opens a stream back at once, on which it is a gRPC client of the client ("reverse" here;
// Praefect's transactions use it). For a call with the metadata "gitaly-sidechannel-id" the server opens one more
// stream, names the call's id on it, and bulk data flows there, outside of gRPC ("sidechannel"; all fetches use it).
//
// On the server, [ServerCredentials] go where the TLS credentials would: plain gRPC clients keep working. On the
// client, [Dial] gives a [google.golang.org/grpc.ClientConn]. Both are credentials because that is the one place
// where grpc-go hands out the connection before HTTP/2 starts.
package backchannel
