package backchannel_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"gitaly-tls-proxy/interop/backchannel"
)

func TestPktLinesAreFramedAsGitDoes(t *testing.T) {
	t.Parallel()
	var wire bytes.Buffer
	writer := backchannel.NewPktWriter(&wire)
	for _, payload := range []string{"a\n", "", "foobar\n"} {
		if n, err := writer.Write([]byte(payload)); n != len(payload) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := writer.Flush(); err != nil {
		t.Fatal(err)
	}
	// The examples of gitprotocol-common, "pkt-line Format".
	if want := "0006a\n000bfoobar\n0000"; wire.String() != want {
		t.Errorf("got %q, want %q", wire.String(), want)
	}
}

func TestPktLinesOfAnySizeArriveEqualHoweverTheyAreSplit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 65515, 65516, 65517, 200_000} {
		payload := bytes.Repeat([]byte("0000ffff"), size/8+1)[:size]
		var wire bytes.Buffer
		writer := backchannel.NewPktWriter(&wire)
		if _, err := writer.Write(payload); err != nil {
			t.Fatal(err)
		}
		if err := writer.Flush(); err != nil {
			t.Fatal(err)
		}
		for name, split := range map[string]func(io.Reader) io.Reader{
			"whole":            func(r io.Reader) io.Reader { return r },
			"byte by byte":     iotest.OneByteReader,
			"data with an end": iotest.DataErrReader,
		} {
			got, err := io.ReadAll(backchannel.NewPktReader(split(bytes.NewReader(wire.Bytes()))))
			if err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%d bytes, %s: %d arrived, %v", size, name, len(got), err)
			}
		}
	}
}

func TestCutOrBrokenPktLinesAreErrors(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]error{
		"":            io.ErrUnexpectedEOF,
		"00":          io.ErrUnexpectedEOF,
		"0006a":       io.ErrUnexpectedEOF,
		"0006a\n":     io.ErrUnexpectedEOF,
		"0001":        backchannel.ErrPktHeader,
		"0003":        backchannel.ErrPktHeader,
		"fff1":        backchannel.ErrPktHeader,
		"PRI ":        backchannel.ErrPktHeader,
		"0006a\n-001": backchannel.ErrPktHeader,
	} {
		if _, err := io.ReadAll(backchannel.NewPktReader(strings.NewReader(wire))); !errors.Is(err, want) {
			t.Errorf("%q gave %v, want %v", wire, err, want)
		}
	}
}
