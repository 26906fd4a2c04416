package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

// load is how a run reaches the server and how much it does.
type load struct {
	url         string
	tls         *tls.Config
	calls       int
	seed        uint64
	connections int
	concurrency int
	deadline    time.Duration
}

// Client is what a client has counted over one protocol.
type Client struct {
	Report
	// Connections includes those that were killed.
	Connections int              `json:"connections"`
	Killed      map[killedBy]int `json:"killed"`
}

// runner makes the calls of one protocol.
type runner struct {
	load
	protocol service.Protocol
	accounts *scripted.Accounts
	shared   []*scripted.Client
	killed   map[killedBy]int
}

// run makes all calls of one protocol. An error says that one did not go as planned: the counts decide nothing then.
func (l load) run(ctx context.Context, protocol service.Protocol) (*Client, error) {
	runner := &runner{load: l, protocol: protocol, accounts: scripted.NewAccounts(), killed: map[killedBy]int{}}
	for range l.connections {
		client, err := runner.dial(ctx)
		if err != nil {
			return nil, err
		}
		runner.shared = append(runner.shared, client)
	}
	err := runner.perform(ctx, newMix(l.seed, protocol, l.deadline).tasks(l.calls))
	connections := 0
	for _, client := range runner.shared {
		connections += client.Connections()
		err = errors.Join(err, client.Close())
	}
	if err == nil && connections > l.connections {
		err = fmt.Errorf("%d connections that nobody killed became %d", l.connections, connections)
	}
	if err != nil {
		return nil, err
	}
	for _, count := range runner.killed {
		connections += count
	}
	return runner.report(ctx, connections)
}

func (r *runner) report(ctx context.Context, connections int) (*Client, error) {
	made, err := r.accounts.Made.Settled(ctx)
	if err != nil {
		return nil, err
	}
	served, err := r.accounts.Served.Settled(ctx)
	if err != nil {
		return nil, err
	}
	return &Client{newReport(made, served, r.accounts.Sidechannels()), connections, r.killed}, nil
}

func (r *runner) dial(ctx context.Context) (*scripted.Client, error) {
	client, err := scripted.Dial(r.url, r.protocol, r.tls, r.accounts)
	if err != nil {
		return nil, err
	}
	return client, client.Connect(ctx)
}

// perform does as many tasks at once as the load says, and stops with the first that fails.
func (r *runner) perform(ctx context.Context, tasks []task) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	queue := make(chan task)
	var workers sync.WaitGroup
	for worker := range r.concurrency {
		workers.Go(func() {
			for task := range queue {
				if err := r.do(ctx, task, r.shared[worker%len(r.shared)]); err != nil {
					stop(err)
				}
			}
		})
	}
	for _, task := range tasks {
		if task.killedBy != byNobody {
			r.killed[task.killedBy]++
		}
		select {
		case queue <- task:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

func (r *runner) do(ctx context.Context, task task, shared *scripted.Client) error {
	if task.killedBy == byNobody {
		return shared.Perform(ctx, &task.calls[0], scripted.Hooks{})
	}
	client, err := r.dial(ctx)
	if err != nil {
		return err
	}
	return errors.Join(kill(ctx, task, client), client.Close())
}

// kill makes the calls of a connection that is killed once each of them waits.
func kill(ctx context.Context, task task, client *scripted.Client) error {
	waiting, killer := task.calls, (*scripted.Plan)(nil)
	if task.killedBy == byServer {
		last := len(task.calls) - 1
		waiting, killer = task.calls[:last], &task.calls[last]
	}
	// A call that fails before it waits is not waited for.
	ended := make(chan error, len(waiting))
	ready := make(chan struct{}, len(waiting))
	for i := range waiting {
		go func() {
			ended <- client.Perform(ctx, &waiting[i], scripted.Hooks{Waiting: func() { ready <- struct{}{} }})
		}()
	}
	for range waiting {
		select {
		case <-ready:
		case err := <-ended:
			return errors.Join(errors.New("a call ended before its connection was killed"), err, client.Kill(true))
		}
	}
	var err error
	if killer != nil {
		err = client.Perform(ctx, killer, scripted.Hooks{})
	} else {
		err = client.Kill(task.abruptly)
	}
	for range waiting {
		err = errors.Join(err, <-ended)
	}
	if err == nil && client.Connections() != 1 {
		err = fmt.Errorf("a connection that was killed became %d", client.Connections())
	}
	return err
}
