package scripted

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"gitaly-tls-proxy/interop/backchannel"
	"gitaly-tls-proxy/interop/service"
)

// Accounts are what clients have counted, all together: give one to each of them.
type Accounts struct {
	// Made are the calls to the server, Served those of the server.
	Made, Served *Ledger
	sidechannels *sidechannelLedger
}

// NewAccounts returns empty ones.
func NewAccounts() *Accounts {
	return &Accounts{Made: NewLedger(), Served: NewLedger(), sidechannels: &sidechannelLedger{}}
}

// Sidechannels are those that the clients have taken.
func (a *Accounts) Sidechannels() []SidechannelAccount { return a.sidechannels.all() }

// Client makes calls over one connection.
type Client struct {
	accounts *Accounts
	conn     *grpc.ClientConn
	registry *backchannel.Registry
	mutex    sync.Mutex
	raw      []net.Conn
}

// Dial makes a client of tls://host:port or tcp://host:port; config is for tls:// alone. It connects with
// Connect or the first call.
func Dial(
	url string, protocol service.Protocol, config *tls.Config, accounts *Accounts,
) (*Client, error) {
	client := &Client{accounts: accounts, registry: backchannel.NewRegistry()}
	target, transport := service.Target(url, config)
	if protocol == service.Backchannel {
		performer := &performer{served: accounts.Served, sidechannels: accounts.sidechannels, cut: cannotCut}
		transport = backchannel.ClientCredentials(transport, backchannel.Options{
			Registry: client.registry,
			ReverseOptions: []grpc.ServerOption{
				grpc.UnknownServiceHandler(performer.handle),
				grpc.StatsHandler(accounts.Served),
			},
		})
	}
	var err error
	client.conn, err = grpc.NewClient(
		target,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(client.dial),
		grpc.WithStatsHandler(accounts.Made),
		grpc.WithMaxHeaderListSize(maxHeaderListBytes),
		// A call is one stream on the wire.
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
	)
	return client, err
}

func cannotCut(context.Context, bool) error {
	return errors.New("clients do not cut connections by plan")
}

func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(address, "passthrough:///"))
	if err != nil {
		return nil, err
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.raw = append(c.raw, conn)
	return conn, nil
}

// Connect makes the connection, so that no call's deadline has to last for that.
func (c *Client) Connect(ctx context.Context) error {
	c.conn.Connect()
	for {
		state := c.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure:
			return fmt.Errorf("no connection to %s", c.conn.Target())
		}
		if !c.conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// Perform makes the call and gives an error if it did not go as planned.
func (c *Client) Perform(ctx context.Context, plan *Plan, hooks Hooks) error {
	if plan.Sidechannel == nil {
		return perform(ctx, c.conn, plan, hooks)
	}
	ctx, waiter := c.registry.NewContext(ctx, func(sidechannel *backchannel.Sidechannel) error {
		return plan.Sidechannel.take(sidechannel, plan.ID, c.accounts.sidechannels)
	})
	err := perform(ctx, c.conn, plan, hooks)
	if taken := waiter.Close(); taken != nil {
		return errors.Join(err, fmt.Errorf("call %s, its sidechannel: %w", plan.ID, taken))
	}
	return err
}

// Left waits until the connection takes no more calls, because it has ended or the server said that it would.
func (c *Client) Left(ctx context.Context) error {
	for c.conn.GetState() == connectivity.Ready {
		if !c.conn.WaitForStateChange(ctx, connectivity.Ready) {
			return ctx.Err()
		}
	}
	return nil
}

// Connections is how many there have been: one, unless something was not as planned.
func (c *Client) Connections() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.raw)
}

// Kill cuts the connection beneath gRPC and TLS.
func (c *Client) Kill(abruptly bool) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var failures error
	for _, conn := range c.raw {
		failures = errors.Join(failures, closeConn(conn, abruptly))
	}
	return failures
}

// Close ends the connection as clients do.
func (c *Client) Close() error { return c.conn.Close() }
