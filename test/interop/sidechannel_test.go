package interop_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gitaly-tls-proxy/interop/service"
)

// sidechannelBytes is a clone of some size: 100 MB and a little.
const sidechannelBytes = 100 << 20

func TestSidechannelDownHasEqualHashes(t *testing.T) {
	onEveryRoute(t, backchannelOnly, func(t *testing.T, client *service.Client) {
		if err := client.Sidechannel(patiently(t), 0, sidechannelBytes); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSidechannelUpHasEqualHashes(t *testing.T) {
	onEveryRoute(t, backchannelOnly, func(t *testing.T, client *service.Client) {
		if err := client.Sidechannel(patiently(t), sidechannelBytes, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSidechannelsRunBothWaysAndAtOnce(t *testing.T) {
	onEveryRoute(t, backchannelOnly, func(t *testing.T, client *service.Client) {
		const calls = 4
		results := make(chan error, calls)
		for range calls {
			go func() { results <- client.Sidechannel(patiently(t), streamedBytes/2, streamedBytes/2) }()
		}
		// The gRPC connection in the same yamux session stays usable beside them.
		if _, err := client.Unary(patiently(t), []byte("meanwhile")); err != nil {
			t.Error(err)
		}
		for range calls {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestEmptySidechannelEndsCleanly(t *testing.T) {
	onEveryRoute(t, backchannelOnly, func(t *testing.T, client *service.Client) {
		if err := client.Sidechannel(patiently(t), 0, 0); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSidechannelOverPlainGRPCIsRefusedByTheService(t *testing.T) {
	onEveryRoute(t, []service.Protocol{service.HTTP2}, func(t *testing.T, client *service.Client) {
		if err := client.Sidechannel(patiently(t), 0, 1); status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("got %v", err)
		}
	})
}

func TestServerCallsTheClientOverTheReverseConnection(t *testing.T) {
	onEveryRoute(t, backchannelOnly, func(t *testing.T, client *service.Client) {
		for _, size := range []int{1, 1 << 20} {
			request := bytes.Repeat([]byte{0x5a}, size)
			answer, err := client.CallBack(patiently(t), request)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(answer, append([]byte("voted on "), request...)) {
				t.Fatalf("the client's answer to %d bytes came back otherwise", size)
			}
		}
	})
}
