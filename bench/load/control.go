package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
)

// control is the conversation with bench/run.mjs: JSON lines out, words in. The end of the input ends the program,
// so that no process remains when the bench dies.
type control struct{ words chan string }

func newControl() *control {
	c := &control{words: make(chan string)}
	go func() {
		defer close(c.words)
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			c.words <- lines.Text()
		}
	}()
	return c
}

func (c *control) say(event any) error {
	return json.NewEncoder(os.Stdout).Encode(event)
}

// await blocks until the word is received. It returns io.EOF if the bench has exited.
func (c *control) await(word string) error {
	for said := range c.words {
		if said == word {
			return nil
		}
	}
	return io.EOF
}
