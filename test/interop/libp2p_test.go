package interop_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/service"
)

const (
	resetCode  = 77
	goAwayCode = 88
)

// TestPingsGrowingWindowsAndErrorCodesOfLibp2pPass has a session that sends in a second the PINGs of hours.
func TestPingsGrowingWindowsAndErrorCodesOfLibp2pPass(t *testing.T) {
	t.Parallel()
	config := yamux.DefaultConfig()
	config.MeasureRTTInterval = time.Millisecond
	config.LogOutput = io.Discard
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	served := make(chan error, 1)
	go func() { served <- serveLibp2p(listener, config) }()
	running, url, ca := startInFront(t, "tcp://"+listener.Addr().String())
	dialer := &tls.Dialer{Config: h2Only(ca)}
	conn, err := dialer.DialContext(patiently(t), "tcp", strings.TrimPrefix(url, "tls://"))
	if err != nil {
		t.Fatal(err)
	}
	if err := useLibp2p(patiently(t), conn, config); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	lines := running.Stop(t)
	expectConnections(t, lines, map[string]int{string(service.Backchannel): 1})
	expectFollowed(t, lines)
}

// serveLibp2p sends a sidechannel, resets it with a code, and waits for a GO AWAY with another.
func serveLibp2p(listener net.Listener, config *yamux.Config) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(len(backchannel.Magic))); err != nil {
		return err
	}
	session, err := yamux.Server(conn, config, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	if _, err := session.AcceptStream(); err != nil {
		return err
	}
	sidechannel, err := session.OpenStream(context.Background())
	if err != nil {
		return err
	}
	greeting := binary.BigEndian.AppendUint64([]byte(backchannel.SidechannelMagic), 1)
	if _, err := sidechannel.Write(greeting); err != nil {
		return err
	}
	if _, err := io.ReadFull(sidechannel, make([]byte, len("ok"))); err != nil {
		return err
	}
	if _, err := sidechannel.Write(make([]byte, sidechannelBytes)); err != nil {
		return err
	}
	// The client answers once it has read everything: a reset discards bytes.
	if _, err := io.ReadFull(sidechannel, make([]byte, 1)); err != nil {
		return err
	}
	if err := sidechannel.ResetWithError(resetCode); err != nil {
		return err
	}
	_, err = session.AcceptStream()
	var goAway *yamux.GoAwayError
	if !errors.As(err, &goAway) || goAway.ErrorCode != goAwayCode {
		return fmt.Errorf("the client's GO AWAY arrived as %w", err)
	}
	return nil
}

func useLibp2p(ctx context.Context, conn net.Conn, config *yamux.Config) error {
	if _, err := io.WriteString(conn, backchannel.Magic); err != nil {
		return err
	}
	session, err := yamux.Client(conn, config, nil)
	if err != nil {
		return err
	}
	defer func() { _ = session.CloseWithError(goAwayCode) }()
	if _, err := session.OpenStream(ctx); err != nil {
		return err
	}
	sidechannel, err := session.AcceptStream()
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, sidechannel, int64(len(backchannel.SidechannelMagic)+8)); err != nil {
		return err
	}
	if _, err := io.WriteString(sidechannel, "ok"); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, sidechannel, sidechannelBytes); err != nil {
		return err
	}
	if _, err := io.WriteString(sidechannel, "."); err != nil {
		return err
	}
	_, err = sidechannel.Read(make([]byte, 1))
	var reset *yamux.StreamError
	if !errors.As(err, &reset) || reset.ErrorCode != resetCode {
		return fmt.Errorf("the server's reset arrived as %w", err)
	}
	return nil
}
