package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

// Capture is what passed on one connection and what its two ends counted.
type Capture struct {
	Protocol     service.Protocol `json:"protocol"`
	Calls        []Call           `json:"calls"`
	Sidechannels []Sidechannel    `json:"sidechannels"`
	chunks       []Chunk
}

// Call is one call as both ends saw it.
type Call struct {
	ID        string           `json:"id"`
	Method    string           `json:"method"`
	Direction string           `json:"direction"`
	End       scripted.End     `json:"end"`
	Client    scripted.Account `json:"client"`
	Server    scripted.Account `json:"server"`
}

// Sidechannel is one sidechannel as both ends saw it, by the id of its call.
type Sidechannel struct {
	ID     string                      `json:"id"`
	Client scripted.SidechannelAccount `json:"client"`
	Server scripted.SidechannelAccount `json:"server"`
}

// scene is a server, a tap before it, and a client that connects through the tap.
type scene struct {
	server   *scripted.Server
	tap      *tap
	client   *scripted.Client
	accounts *scripted.Accounts
	ends     map[string]scripted.End
}

func open(protocol service.Protocol) (*scene, error) {
	server, err := scripted.Serve("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tap, err := startTap(server.Address)
	if err != nil {
		return nil, err
	}
	accounts := scripted.NewAccounts()
	client, err := scripted.Dial("tcp://"+tap.listener.Addr().String(), protocol, nil, accounts)
	return &scene{server, tap, client, accounts, map[string]scripted.End{}}, err
}

// perform makes the calls of a step at the same time.
func (s *scene) perform(ctx context.Context, calls step, waiting func()) error {
	results := make(chan error, len(calls))
	for _, plan := range calls {
		s.ends[plan.ID] = plan.End
		go func() { results <- s.client.Perform(ctx, &plan, scripted.Hooks{Waiting: waiting}) }()
	}
	var failures error
	for range calls {
		failures = errors.Join(failures, <-results)
	}
	return failures
}

// record makes the calls of the script, during the last of which the server begins to stop.
func record(ctx context.Context, protocol service.Protocol) (*Capture, error) {
	scene, err := open(protocol)
	if err != nil {
		return nil, err
	}
	steps, drained := script(protocol)
	for _, calls := range steps {
		if err := scene.perform(ctx, calls, nil); err != nil {
			return nil, err
		}
	}
	stopped := make(chan error, 1)
	err = scene.client.Perform(ctx, &drained, scripted.Hooks{BeforeRequest: func(index int) error {
		if index == 0 {
			return nil
		}
		go func() { stopped <- scene.server.GracefulStop() }()
		return scene.client.Left(ctx)
	}})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(<-stopped, scene.client.Close()); err != nil {
		return nil, err
	}
	return scene.capture(ctx, protocol)
}

// recordCut makes calls that wait, and cuts their connection once all do.
func recordCut(ctx context.Context, protocol service.Protocol) (*Capture, error) {
	scene, err := open(protocol)
	if err != nil {
		return nil, err
	}
	calls := cutScript(protocol)
	var waiting sync.WaitGroup
	waiting.Add(len(calls))
	cut := make(chan error, 1)
	go func() {
		waiting.Wait()
		cut <- scene.tap.cut()
	}()
	if err := scene.perform(ctx, calls, waiting.Done); err != nil {
		return nil, err
	}
	if err := errors.Join(<-cut, scene.client.Close(), scene.server.Stop()); err != nil {
		return nil, err
	}
	return scene.capture(ctx, protocol)
}

// capture joins what both ends have counted and makes sure that they agree on what moved.
func (s *scene) capture(ctx context.Context, protocol service.Protocol) (*Capture, error) {
	chunks, err := s.tap.all()
	if err != nil {
		return nil, err
	}
	if count := s.client.Connections(); count != 1 {
		return nil, fmt.Errorf("the client made %d connections", count)
	}
	capture := &Capture{Protocol: protocol, Calls: []Call{}, Sidechannels: []Sidechannel{}, chunks: chunks}
	for _, direction := range []struct {
		name         string
		made, served *scripted.Ledger
	}{
		{"to_upstream", s.accounts.Made, s.server.Served},
		{"to_client", s.server.Made, s.accounts.Served},
	} {
		calls, err := join(ctx, direction.made, direction.served)
		if err != nil {
			return nil, err
		}
		for _, call := range calls {
			call.Direction, call.End = direction.name, s.ends[call.ID]
			capture.Calls = append(capture.Calls, call)
		}
	}
	servers := s.server.Sidechannels()
	for _, client := range s.accounts.Sidechannels() {
		index := slices.IndexFunc(servers, func(server scripted.SidechannelAccount) bool { return server.ID == client.ID })
		if index < 0 || servers[index].Sent != client.Received || servers[index].Received != client.Sent {
			return nil, fmt.Errorf("the ends of sidechannel %s disagree: %v %v", client.ID, client, servers)
		}
		capture.Sidechannels = append(capture.Sidechannels, Sidechannel{client.ID, client, servers[index]})
	}
	slices.SortFunc(capture.Sidechannels, func(a, b Sidechannel) int { return strings.Compare(a.ID, b.ID) })
	return capture, nil
}

// join gives each call with both accounts, in the order in which the client's end began them.
func join(ctx context.Context, made, served *scripted.Ledger) ([]Call, error) {
	clients, err := made.Settled(ctx)
	if err != nil {
		return nil, err
	}
	servers, err := served.Settled(ctx)
	if err != nil {
		return nil, err
	}
	if len(clients) != len(servers) {
		return nil, fmt.Errorf("%d calls were made and %d served", len(clients), len(servers))
	}
	var calls []Call
	for _, client := range clients {
		index := slices.IndexFunc(servers, func(server scripted.Account) bool { return server.ID == client.ID })
		if index < 0 {
			return nil, fmt.Errorf("call %s was not served", client.ID)
		}
		server := servers[index]
		if server.Method != client.Method || server.Received != client.Sent || server.Sent != client.Received {
			return nil, fmt.Errorf("the ends of call %s disagree: %+v and %+v", client.ID, client, server)
		}
		calls = append(calls, Call{ID: client.ID, Method: client.Method, Client: client, Server: server})
	}
	return calls, nil
}
