// Command record makes the captures of ../data/captures: what a grpc-go client and server sent each other, over plain
// gRPC and over the backchannel, and the calls that they made.
package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gitaly-tls-proxy/interop/scripted"
	"gitaly-tls-proxy/interop/service"
)

// patience bounds a recording, which takes a second.
const patience = time.Minute

func main() {
	out := flag.String("out", filepath.Join("..", "data", "captures"), "the folder to write into")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(out string) error {
	ctx, cancel := scripted.Within(context.Background(), patience)
	defer cancel()
	for _, protocol := range []service.Protocol{service.HTTP2, service.Backchannel} {
		for suffix, recorder := range map[string]func(context.Context, service.Protocol) (*Capture, error){
			"":     record,
			"-cut": recordCut,
		} {
			capture, err := recorder(ctx, protocol)
			if err != nil {
				return fmt.Errorf("%s%s: %w", protocol, suffix, err)
			}
			if err := capture.write(filepath.Join(out, string(protocol)+suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// write makes base.calls.json and base.jsonl.gz: a chunk a line.
func (c *Capture) write(base string) error {
	calls, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(base+".calls.json", append(calls, '\n'), 0o644); err != nil {
		return err
	}
	file, err := os.Create(base + ".jsonl.gz")
	if err != nil {
		return err
	}
	return errors.Join(c.writeChunks(file), file.Close())
}

func (c *Capture) writeChunks(sink io.Writer) error {
	compressed, err := gzip.NewWriterLevel(sink, gzip.BestCompression)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(compressed)
	lines := json.NewEncoder(buffered)
	for _, chunk := range c.chunks {
		if err := lines.Encode(chunk); err != nil {
			return err
		}
	}
	return errors.Join(buffered.Flush(), compressed.Close())
}
