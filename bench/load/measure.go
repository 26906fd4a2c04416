package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// budget bounds a measurement: it is over when any of these is used up. Zero means no bound.
type budget struct {
	duration   time.Duration
	operations int64
	bytes      int64
	// pause is the time for which a worker rests after each operation.
	pause time.Duration
}

// tally is the result of one measurement.
type tally struct {
	Operations int64   `json:"operations"`
	Bytes      int64   `json:"bytes"`
	Seconds    float64 `json:"seconds"`
	P50Micros  float64 `json:"p50_us"`
	P99Micros  float64 `json:"p99_us"`
	MaxMicros  float64 `json:"max_us"`
}

// operation does one unit of work for a worker and returns the number of payload bytes.
type operation func(worker int) (int64, error)

// measure lets the workers repeat the operation until the budget is used up, and returns when the last has finished
// its piece: before and after it nothing is under way, so the CPU read then belongs to exactly the work counted.
func measure(workers int, limit budget, do operation) (tally, error) {
	var (
		started, moved atomic.Int64
		group          sync.WaitGroup
		latencies      = make([][]time.Duration, workers)
		failures       = make([]error, workers)
		failed         atomic.Bool
	)
	begin := time.Now()
	within := func() bool {
		return !failed.Load() &&
			(limit.duration == 0 || time.Since(begin) < limit.duration) &&
			(limit.bytes == 0 || moved.Load() < limit.bytes) &&
			(limit.operations == 0 || started.Add(1) <= limit.operations)
	}
	for worker := range workers {
		group.Go(func() {
			for within() {
				start := time.Now()
				bytes, err := do(worker)
				if err != nil {
					failures[worker] = err
					failed.Store(true)
					return
				}
				latencies[worker] = append(latencies[worker], time.Since(start))
				moved.Add(bytes)
				time.Sleep(limit.pause)
			}
		})
	}
	group.Wait()
	seconds := time.Since(begin).Seconds()
	for _, err := range failures {
		if err != nil {
			return tally{}, err
		}
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	return tally{
		Operations: int64(len(all)),
		Bytes:      moved.Load(),
		Seconds:    seconds,
		P50Micros:  quantileMicros(all, 0.50),
		P99Micros:  quantileMicros(all, 0.99),
		MaxMicros:  quantileMicros(all, 1),
	}, nil
}

func quantileMicros(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1))].Nanoseconds()) / 1000
}
