package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

const (
	findCommit       = "/gitaly.CommitService/FindCommit"
	treeEntry        = "/gitaly.CommitService/TreeEntry"
	commitFiles      = "/gitaly.OperationService/UserCommitFiles"
	catFile          = "/gitaly.CommitService/CheckObjectsExist"
	uploadPack       = "/gitaly.SSHService/SSHUploadPackWithSidechannel"
	voteTransaction  = "/gitaly.RefTransaction/VoteTransaction"
	updateReferences = "/gitaly.RefService/UpdateReferences"
)

// step is a set of calls that are made at the same time; the next step begins when all have ended.
type step []scripted.Plan

// script is what is recorded of a connection that ends as it should. drained is the call during which the server
// begins to stop.
func script(protocol service.Protocol) (steps []step, drained scripted.Plan) {
	steps = []step{
		{{ID: "unary", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 100, Answers: 1, AnswerBytes: 200}},
		{{ID: "unary-empty", Method: findCommit, Kind: scripted.Unary, Requests: 1, Answers: 1}},
		{{
			ID: "unary-large", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 100_000,
			Answers: 1, AnswerBytes: 150_000,
		}},
		{{
			ID: "server-stream", Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, RequestBytes: 50,
			Answers: 12, AnswerBytes: 20_000,
		}},
		{{
			ID: "client-stream", Method: commitFiles, Kind: scripted.ClientStream, Requests: 12, RequestBytes: 20_000,
			Answers: 1, AnswerBytes: 10,
		}},
		{{ID: "bidi", Method: catFile, Kind: scripted.BidiStream, Requests: 8, RequestBytes: 300, Echo: true}},
		{{
			ID: "bidi-server-ends-first", Method: catFile, Kind: scripted.BidiStream, Requests: 3, RequestBytes: 300, Echo: true,
			LeaveOpen: true, Code: codes.Aborted,
		}},
		failures(),
		{{
			ID: "error-behind-headers", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 10, HeadersFirst: true,
			Code: codes.NotFound,
		}},
		{{
			ID: "error-behind-messages", Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, Answers: 3, AnswerBytes: 1000,
			Code: codes.DataLoss,
		}},
		{{ID: "cancel", Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, Answers: 3, AnswerBytes: 5000, End: scripted.ByCancel}},
		{{
			ID: "cancel-client-stream", Method: updateReferences, Kind: scripted.ClientStream, Requests: 4, RequestBytes: 700,
			LeaveOpen: true, End: scripted.ByCancel,
		}},
		deadlines(),
		{{
			ID: "deadline-kept", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 30, Answers: 1,
			AnswerBytes: 40, Deadline: time.Hour,
		}},
		{{ID: "server-resets", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 60, End: scripted.ByReset}},
		{
			// Twice, so that the second refers to what the first has put into the tables.
			{ID: "metadata", Method: findCommit, Kind: scripted.Unary, Requests: 1, Answers: 1, MetadataBytes: 40_000},
			{ID: "metadata-again", Method: findCommit, Kind: scripted.Unary, Requests: 1, Answers: 1, MetadataBytes: 30_000},
		},
		{
			{ID: "gzip", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 30_000, Answers: 1, AnswerBytes: 40_000, Gzip: true},
			{ID: "gzip-stream", Method: catFile, Kind: scripted.BidiStream, Requests: 4, RequestBytes: 9000, Echo: true, Gzip: true},
		},
		atOnce(),
	}
	if protocol == service.Backchannel {
		steps = append(steps, overBackchannel()...)
	}
	drained = scripted.Plan{
		ID: "drained", Method: catFile, Kind: scripted.BidiStream, Requests: 2, RequestBytes: 100, Echo: true,
	}
	return steps, drained
}

// failures are trailers-only answers, one a code.
func failures() step {
	var calls step
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		calls = append(calls, scripted.Plan{
			ID: "fails-" + code.String(), Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 20, Code: code,
		})
	}
	return calls
}

// deadlines are several, because either end's timer may be the first.
func deadlines() step {
	var calls step
	for i := range 8 {
		calls = append(calls, scripted.Plan{
			ID: fmt.Sprintf("deadline-%d", i), Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, Answers: 2,
			AnswerBytes: 500, End: scripted.ByDeadline, Deadline: time.Duration(150+10*i) * time.Millisecond,
		})
	}
	return calls
}

// atOnce are calls whose frames lie between each other's.
func atOnce() step {
	return step{
		{ID: "at-once-1", Method: catFile, Kind: scripted.BidiStream, Requests: 10, RequestBytes: 400, Echo: true},
		{ID: "at-once-2", Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, Answers: 10, AnswerBytes: 10_000},
		{
			ID: "at-once-3", Method: commitFiles, Kind: scripted.ClientStream, Requests: 10, RequestBytes: 10_000, Answers: 1,
			AnswerBytes: 1,
		},
		{ID: "at-once-4", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 70_000, Answers: 1, AnswerBytes: 70_000},
		{ID: "at-once-5", Method: findCommit, Kind: scripted.Unary, Requests: 1, Code: codes.PermissionDenied},
		{ID: "at-once-6", Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, Answers: 4, AnswerBytes: 9, End: scripted.ByCancel},
	}
}

// overBackchannel are the calls that need one.
func overBackchannel() []step {
	voted := func(id string, code codes.Code) scripted.Plan {
		return scripted.Plan{
			ID: id, Method: updateReferences, Kind: scripted.ClientStream, Requests: 2, RequestBytes: 90, Answers: 1, AnswerBytes: 5,
			Vote: &scripted.Vote{
				Method: voteTransaction, RequestBytes: 70_000,
				Plan: scripted.Plan{ID: id + "-vote", Kind: scripted.Unary, Requests: 1, Answers: 1, AnswerBytes: 3000, Code: code},
			},
		}
	}
	return []step{
		{voted("voted", codes.OK)},
		{voted("vetoed", codes.FailedPrecondition)},
		{
			{
				ID: "sidechannel", Method: uploadPack, Kind: scripted.Unary, Requests: 1, RequestBytes: 80, Answers: 1, AnswerBytes: 30,
				Sidechannel: &scripted.Sidechannel{Up: 300_000, Down: 400_000},
			},
			{
				ID: "sidechannel-cut-short", Method: uploadPack, Kind: scripted.Unary, Requests: 1, RequestBytes: 80,
				Sidechannel: &scripted.Sidechannel{Up: 200_000, Down: 300_000, Cut: true}, Code: codes.Aborted,
			},
			{ID: "beside-sidechannels", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 7, Answers: 1, AnswerBytes: 8},
		},
	}
}

// cutScript are calls that wait when their connection is cut.
func cutScript(protocol service.Protocol) step {
	calls := step{
		{ID: "cut-unary", Method: findCommit, Kind: scripted.Unary, Requests: 1, RequestBytes: 33, End: scripted.ByKill},
		{
			ID: "cut-server-stream", Method: treeEntry, Kind: scripted.ServerStream, Requests: 1, Answers: 5, AnswerBytes: 2000,
			End: scripted.ByKill,
		},
		{
			ID: "cut-client-stream", Method: commitFiles, Kind: scripted.ClientStream, Requests: 5, RequestBytes: 2000,
			LeaveOpen: true, End: scripted.ByKill,
		},
		{
			ID: "cut-bidi", Method: catFile, Kind: scripted.BidiStream, Requests: 3, RequestBytes: 50, Echo: true, LeaveOpen: true,
			End: scripted.ByKill,
		},
	}
	if protocol == service.Backchannel {
		calls = append(calls, scripted.Plan{
			ID: "cut-sidechannel", Method: uploadPack, Kind: scripted.Unary, Requests: 1, End: scripted.ByKill,
			Sidechannel: &scripted.Sidechannel{Up: 10_000, Down: 100_000},
		})
	}
	return calls
}
