package main

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// message is a gRPC message without a schema. Its bytes are sent as they are; of a received one only the length is
// kept unless keep is set, so that the load uses as little CPU as possible next to the measured proxy.
type message struct {
	body   []byte
	length int
	keep   bool
}

// rawCodec puts messages on the wire without protobuf and without a copy.
type rawCodec struct{}

func (rawCodec) Marshal(value any) (mem.BufferSlice, error) {
	m, ok := value.(*message)
	if !ok {
		return nil, fmt.Errorf("cannot send a %T", value)
	}
	return mem.BufferSlice{mem.SliceBuffer(m.body)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, value any) error {
	m, ok := value.(*message)
	if !ok {
		return fmt.Errorf("cannot receive a %T", value)
	}
	m.length = data.Len()
	if m.keep {
		m.body = data.Materialize()
	}
	return nil
}

// Name is the content-type of Gitaly's clients, so that an inspecting proxy sees an ordinary gRPC call.
func (rawCodec) Name() string { return "proto" }
