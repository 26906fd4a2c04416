package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/service"
)

// reach is how a client reaches the proxy.
type reach struct {
	address string
	ca      string
	// library is that of the backchannel; empty for HTTP/2.
	library backchannel.Library
}

func (r reach) dial() (*grpc.ClientConn, error) {
	config, err := service.Trust(r.ca, "localhost")
	if err != nil {
		return nil, err
	}
	transport := credentials.NewTLS(config)
	if r.library != "" {
		transport = backchannel.ClientCredentials(transport, backchannel.Options{Library: r.library})
	}
	return grpc.NewClient("passthrough:///"+r.address,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
}

func piecesOf(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for start := 0; start < len(body); start += pieceBytes {
			if !yield(body[start:min(len(body), start+pieceBytes)]) {
				return
			}
		}
	}
}

func eachMessage(stream grpc.Stream, use func([]byte) error) error {
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = use(message)
		}
		if err != nil {
			return err
		}
	}
}

// call makes a call with this body and compares what comes back. The kinds are those of [answer].
func call(ctx context.Context, conn *grpc.ClientConn, service, kind string, body []byte) error {
	path := "/" + service + "/" + kind
	if kind == "Unary" {
		var answer []byte
		if err := conn.Invoke(ctx, path, &body, &answer); err != nil {
			return err
		}
		return compare(answer, body)
	}
	description := &grpc.StreamDesc{ClientStreams: kind != "Down", ServerStreams: kind != "Up"}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, description, path)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	send := func() error {
		if kind == "Down" || kind == "Hold" {
			return stream.SendMsg(&body)
		}
		for piece := range piecesOf(body) {
			if err := stream.SendMsg(&piece); err != nil {
				return err
			}
		}
		return nil
	}
	go func() {
		err := send()
		if err == nil && kind != "Hold" {
			err = stream.CloseSend()
		}
		// io.EOF: the call has ended, and receiving has the reason.
		if errors.Is(err, io.EOF) {
			err = nil
		}
		sent <- err
	}()
	if kind == "Up" {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			cancel()
			<-sent
			return err
		}
		digest := sha256.Sum256(body)
		return errors.Join(compare(answer, digest[:]), <-sent)
	}
	var answer bytes.Buffer
	err = eachMessage(stream, func(message []byte) error {
		_, err := answer.Write(message)
		return err
	})
	if err != nil {
		cancel()
		<-sent
		return err
	}
	return errors.Join(compare(answer.Bytes(), body), <-sent)
}

func compare(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	return fmt.Errorf("%d bytes came back that are not the %d that were expected", len(got), len(want))
}
