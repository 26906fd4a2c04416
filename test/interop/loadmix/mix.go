package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

// killedBy says who ends a connection under its calls.
type killedBy string

const (
	byNobody killedBy = ""
	byClient killedBy = "client"
	byServer killedBy = "server"
)

// task is one call on a connection that others share, or all calls of a connection that is killed.
type task struct {
	calls    []scripted.Plan
	killedBy killedBy
	// abruptly: by a reset of the connection.
	abruptly bool
}

// mix makes the plans of a run. It is the same for the same arguments.
type mix struct {
	random   *rand.Rand
	protocol service.Protocol
	deadline time.Duration
	made     int
	statuses int
}

func newMix(seed uint64, protocol service.Protocol, deadline time.Duration) *mix {
	stream := uint64(0)
	if protocol == service.Backchannel {
		stream = 1
	}
	return &mix{random: rand.New(rand.NewPCG(seed, stream)), protocol: protocol, deadline: deadline}
}

// tasks are exactly count calls.
func (m *mix) tasks(count int) []task {
	var tasks []task
	for m.made < count {
		switch share := m.random.IntN(100); {
		case share < 12:
			tasks = append(tasks, task{calls: []scripted.Plan{m.interrupted(scripted.ByCancel)}})
		case share < 16:
			plan := m.interrupted(scripted.ByDeadline)
			plan.Deadline = m.deadline + time.Duration(m.random.Int64N(int64(m.deadline)))
			tasks = append(tasks, task{calls: []scripted.Plan{plan}})
		case share < 22:
			plan := m.cutByServer(scripted.ByReset)
			tasks = append(tasks, task{calls: []scripted.Plan{plan}})
		case share < 24 && count-m.made > 1:
			tasks = append(tasks, m.killed(count-m.made))
		default:
			tasks = append(tasks, task{calls: []scripted.Plan{m.byStatus()}})
		}
	}
	return tasks
}

// killed are two to six calls, and one that makes the server kill their connection if it is the server who does.
func (m *mix) killed(atMost int) task {
	result := task{killedBy: byClient, abruptly: m.random.IntN(2) == 0}
	for range min(2+m.random.IntN(5), atMost-1) {
		result.calls = append(result.calls, m.interrupted(scripted.ByKill))
	}
	if m.random.IntN(2) == 0 {
		result.killedBy = byServer
		killer := m.cutByServer(scripted.ByKiller)
		killer.Abruptly = result.abruptly
		result.calls = append(result.calls, killer)
	}
	return result
}

// interrupted is a call that is ended while the server waits. Where the server streams it has then sent messages.
func (m *mix) interrupted(end scripted.End) scripted.Plan {
	plan := m.begin(m.kind())
	plan.End = end
	// With the last echo the client has all that it waits for; the end of its side could still be on its way.
	plan.LeaveOpen = plan.LeaveOpen || plan.Echo
	if plan.Kind == scripted.ServerStream {
		plan.Answers, plan.AnswerBytes = m.random.IntN(4), m.size()
	}
	return plan
}

// cutByServer is a call that the server cuts, and with it what it has sent last: if that was an echo, the client has
// to have it before, which the end of its own side says.
func (m *mix) cutByServer(end scripted.End) scripted.Plan {
	plan := m.begin(m.kind())
	plan.End = end
	plan.LeaveOpen = plan.LeaveOpen && !plan.Echo
	return plan
}

// byStatus goes through all codes and kinds, OK every other time.
func (m *mix) byStatus() scripted.Plan {
	index := m.statuses
	m.statuses++
	code := codes.OK
	if index%2 == 1 {
		code = codes.Code(index / 2 % 17)
	}
	plan := m.begin(kinds[index/34%len(kinds)])
	plan.Code = code
	plan.Gzip = m.random.IntN(10) == 0
	plan.HeadersFirst = m.random.IntN(4) == 0
	switch {
	case plan.Kind == scripted.ServerStream || plan.Kind == scripted.BidiStream && !plan.Echo:
		plan.Answers = m.random.IntN(6)
	case plan.Kind != scripted.BidiStream && code == codes.OK:
		plan.Answers = 1
	}
	plan.AnswerBytes = m.size()
	if m.random.IntN(30) == 0 {
		// As large as needs CONTINUATION.
		plan.MetadataBytes = 40_000
	}
	if m.protocol == service.Backchannel {
		m.besides(&plan)
	}
	return plan
}

// besides adds what a backchannel alone can do.
func (m *mix) besides(plan *scripted.Plan) {
	switch share := m.random.IntN(10); {
	case share == 0 && plan.Kind == scripted.Unary:
		plan.Method = sidechannelMethod
		plan.Sidechannel = &scripted.Sidechannel{
			Up: m.random.IntN(50_000), Down: m.random.IntN(200_000), Cut: plan.Code != codes.OK,
		}
	case share == 1:
		vote := scripted.Plan{
			ID: plan.ID + "-vote", Kind: scripted.Unary, Requests: 1, AnswerBytes: m.size(),
			Code: codes.Code(m.random.IntN(17)),
		}
		if vote.Code == codes.OK {
			vote.Answers = 1
		}
		plan.Vote = &scripted.Vote{Plan: vote, Method: voteMethod, RequestBytes: m.size()}
	}
}

// begin is what every call has: a method and its requests.
func (m *mix) begin(kind scripted.Kind) scripted.Plan {
	m.made++
	names := methods[kind]
	plan := scripted.Plan{
		ID:           fmt.Sprintf("%s-%d", m.protocol, m.made),
		Method:       names[m.random.IntN(len(names))],
		Kind:         kind,
		Requests:     1,
		RequestBytes: m.size(),
	}
	if kind == scripted.ClientStream || kind == scripted.BidiStream {
		plan.Requests = m.random.IntN(6)
		plan.LeaveOpen = m.random.IntN(3) == 0
		plan.Echo = kind == scripted.BidiStream && plan.Requests > 0 && m.random.IntN(2) == 0
	}
	return plan
}

func (m *mix) kind() scripted.Kind { return kinds[m.random.IntN(len(kinds))] }

// size is a few bytes mostly, more than a frame sometimes, more than a window seldom.
func (m *mix) size() int {
	switch share := m.random.IntN(40); {
	case share == 0:
		return m.random.IntN(100_000)
	case share < 5:
		return m.random.IntN(30_000)
	default:
		return m.random.IntN(300)
	}
}
