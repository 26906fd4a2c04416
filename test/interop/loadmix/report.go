package main

import (
	"cmp"
	"slices"
	"strings"

	"gitaly-tls-proxy/interop/scripted"
)

// MethodCounts are what one end has counted of one method.
type MethodCounts struct {
	Service string        `json:"service"`
	Method  string        `json:"method"`
	Type    scripted.Kind `json:"type"`
	Started int           `json:"started"`
	// Sent and Received are messages, as the end sees it that reports.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// Codes are how calls ended; at the server those that its handlers ended.
	Codes map[string]int `json:"codes"`
	// Interrupted are at the server those that ended otherwise.
	Interrupted map[scripted.End]int `json:"interrupted,omitempty"`
}

// Sidechannels are what one end has counted of all sidechannels, in bytes of pkt-lines.
type Sidechannels struct {
	Opened   int   `json:"opened"`
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

// Report is what one end has counted: the calls that it made, and those that it served.
type Report struct {
	Made         []MethodCounts `json:"made"`
	Served       []MethodCounts `json:"served"`
	Sidechannels Sidechannels   `json:"sidechannels"`
}

func newReport(made, served []scripted.Account, sidechannels []scripted.SidechannelAccount) Report {
	report := Report{Made: byMethod(made), Served: byMethod(served)}
	for _, sidechannel := range sidechannels {
		report.Sidechannels.Opened++
		report.Sidechannels.Sent += sidechannel.Sent
		report.Sidechannels.Received += sidechannel.Received
	}
	return report
}

func byMethod(accounts []scripted.Account) []MethodCounts {
	counts := map[string]*MethodCounts{}
	for _, account := range accounts {
		method := counts[account.Method]
		if method == nil {
			service, name, _ := strings.Cut(strings.TrimPrefix(account.Method, "/"), "/")
			method = &MethodCounts{
				Service:     service,
				Method:      name,
				Type:        kindOf(account.Method),
				Codes:       map[string]int{},
				Interrupted: map[scripted.End]int{},
			}
			counts[account.Method] = method
		}
		method.Started++
		method.Sent += account.Sent.Messages
		method.Received += account.Received.Messages
		if account.Interrupted == scripted.ByStatus {
			method.Codes[account.Code]++
		} else {
			method.Interrupted[account.Interrupted]++
		}
	}
	result := []MethodCounts{}
	for _, method := range counts {
		result = append(result, *method)
	}
	slices.SortFunc(result, func(a, b MethodCounts) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Method, b.Method))
	})
	return result
}
