package main

import (
	"net"
	"time"

	orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
	orcagrpc "github.com/cncf/xds/go/xds/service/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/orca"

	"gitaly-tls-proxy/interop/backchannel"
)

// start serves both protocols on one port; where it is bound.
func start(address string) (*grpc.Server, string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", err
	}
	metrics := orca.NewServerMetricsRecorder()
	server := grpc.NewServer(
		grpc.Creds(backchannel.ServerCredentials(insecure.NewCredentials())),
		orca.CallMetricsServerOption(nil),
	)
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: metrics}))
	orcagrpc.RegisterOpenRcaServiceServer(server, &loadReports{metrics: metrics})
	go func() { _ = server.Serve(listener) }()
	return server, listener.Addr().String(), nil
}

// loadReports does what grpc-go's own service (package orca) does, which outside grpc-go's tests reports at most every
// 30 s, as long as orca_oob may take. This one reports as often as it is asked to.
type loadReports struct {
	orcagrpc.UnimplementedOpenRcaServiceServer
	metrics orca.ServerMetricsProvider
}

func (s *loadReports) StreamCoreMetrics(
	request *orcagrpc.OrcaLoadReportRequest, stream orcagrpc.OpenRcaService_StreamCoreMetricsServer,
) error {
	ticker := time.NewTicker(max(request.GetReportInterval().AsDuration(), time.Millisecond))
	defer ticker.Stop()
	for {
		now := s.metrics.ServerMetrics()
		// What has not been set is -1 there.
		report := &orcapb.OrcaLoadReport{
			CpuUtilization: max(now.CPUUtilization, 0),
			MemUtilization: max(now.MemUtilization, 0),
			Utilization:    now.Utilization,
		}
		if err := stream.Send(report); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-ticker.C:
		}
	}
}
