// Command load is both ends of the benchmark: the backend in place of Gitaly, and the client that loads a proxy in
// front of it. bench/run.mjs starts, controls and stops it.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{
		"backend":     runBackend,
		"client":      runClient,
		"certificate": runCertificate,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: load backend | client | certificate [flags]")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "load %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// newFlags makes the flag set of one command; a wrong flag ends the program with exit code 2.
func newFlags(command string) *flag.FlagSet {
	return flag.NewFlagSet("load "+command, flag.ExitOnError)
}
