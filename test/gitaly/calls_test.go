package gitaly

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gitlab.com/gitlab-org/gitaly/v15/proto/go/gitalypb"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func testCalls(t *testing.T, address, name string) {
	ctx := contextOf(t)
	conn := dial(t, address, Token)
	repositories := gitalypb.NewRepositoryServiceClient(conn)
	repo := repository(name + ".git")

	t.Run("health, with a valid token and without", func(t *testing.T) {
		answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("health: %v, %v", answer, err)
		}
		stranger := healthpb.NewHealthClient(dial(t, address, ""))
		if _, err := stranger.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unauthenticated {
			t.Fatalf("health without a token: %v", err)
		}
	})
	t.Run("ServerInfo, and a wrong token refused", func(t *testing.T) {
		info, err := gitalypb.NewServerServiceClient(conn).ServerInfo(ctx, &gitalypb.ServerInfoRequest{})
		if err != nil || len(info.GetStorageStatuses()) != 1 {
			t.Fatalf("ServerInfo: %v, %v", info, err)
		}
		for token, wanted := range map[string]codes.Code{"": codes.Unauthenticated, "wrong": codes.PermissionDenied} {
			stranger := gitalypb.NewServerServiceClient(dial(t, address, token))
			if _, err := stranger.ServerInfo(ctx, &gitalypb.ServerInfoRequest{}); status.Code(err) != wanted {
				t.Errorf("ServerInfo with the token %q: %v, not %v", token, err, wanted)
			}
		}
	})
	t.Run("a client stream makes a repository from a bundle, a server stream gives it back", func(t *testing.T) {
		bundle := makeBundle(t)
		stream, err := repositories.CreateRepositoryFromBundle(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&gitalypb.CreateRepositoryFromBundleRequest{Repository: repo}); err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(bundle, 100_000) {
			if err := stream.Send(&gitalypb.CreateRepositoryFromBundleRequest{Data: part}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stream.CloseAndRecv(); err != nil {
			t.Fatal(err)
		}
		received, err := repositories.CreateBundle(ctx, &gitalypb.CreateBundleRequest{Repository: repo})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "bundle")
		if err := os.WriteFile(file, receiveAll(t, received.Recv), 0o600); err != nil {
			t.Fatal(err)
		}
		git(t, t.TempDir(), nil, "clone", "--quiet", file, "clone")
	})
	t.Run("CreateRepository, and again", func(t *testing.T) {
		request := &gitalypb.CreateRepositoryRequest{Repository: repository(name + "-empty.git")}
		if _, err := repositories.CreateRepository(ctx, request); err != nil {
			t.Fatal(err)
		}
		if _, err := repositories.CreateRepository(ctx, request); status.Code(err) != codes.AlreadyExists {
			t.Fatalf("a second time: %v", err)
		}
	})
	t.Run("a repository that is not there", func(t *testing.T) {
		_, err := repositories.RepositorySize(ctx, &gitalypb.RepositorySizeRequest{Repository: repository("none.git")})
		if status.Code(err) != codes.NotFound {
			t.Fatalf("RepositorySize: %v", err)
		}
	})
}

func receiveAll(t testing.TB, receive func() (*gitalypb.CreateBundleResponse, error)) []byte {
	t.Helper()
	var content bytes.Buffer
	for {
		part, err := receive()
		if errors.Is(err, io.EOF) {
			return content.Bytes()
		}
		if err != nil {
			t.Fatal(err)
		}
		content.Write(part.GetData())
	}
}

func makeBundle(t testing.TB) []byte {
	t.Helper()
	source := makeRepository(t, 10, 100_000)
	file := filepath.Join(t.TempDir(), "bundle")
	git(t, source, nil, "bundle", "create", "--quiet", file, "main")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
