package main

import "gitaly-tls-proxy/interop/scripted"

// methods are RPCs of Gitaly, by kind: whoever knows Gitaly labels them.
var methods = map[scripted.Kind][]string{
	scripted.Unary: {
		"/gitaly.CommitService/FindCommit",
		"/gitaly.OperationService/UserCreateBranch",
		"/gitaly.RefService/FindBranch",
		"/gitaly.RepositoryService/OptimizeRepository",
		"/gitaly.ServerService/ServerInfo",
	},
	scripted.ClientStream: {
		"/gitaly.OperationService/UserCommitFiles",
		"/gitaly.RefService/UpdateReferences",
		"/gitaly.RepositoryService/CreateRepositoryFromBundle",
	},
	scripted.ServerStream: {
		"/gitaly.BlobService/ListBlobs",
		"/gitaly.CommitService/TreeEntry",
		"/gitaly.DiffService/RawDiff",
		"/gitaly.RepositoryService/GetArchive",
		"/gitaly.SmartHTTPService/InfoRefsUploadPack",
	},
	scripted.BidiStream: {
		"/gitaly.CommitService/CheckObjectsExist",
		"/gitaly.HookService/PreReceiveHook",
		"/gitaly.SSHService/SSHReceivePack",
		"/gitaly.SmartHTTPService/PostReceivePack",
	},
}

const (
	// sidechannelMethod moves its content over a sidechannel.
	sidechannelMethod = "/gitaly.SmartHTTPService/PostUploadPackWithSidechannel"
	// voteMethod is what the server calls the client with, over the backchannel.
	voteMethod = "/gitaly.RefTransaction/VoteTransaction"
)

var kinds = []scripted.Kind{
	scripted.Unary, scripted.ClientStream, scripted.ServerStream, scripted.BidiStream,
}

// kindOf gives the kind of each method that is called.
func kindOf(method string) scripted.Kind {
	for kind, names := range methods {
		for _, name := range names {
			if name == method {
				return kind
			}
		}
	}
	return scripted.Unary
}
