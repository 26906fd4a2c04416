package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Line is one line of the proxy's log: the fields that the tests look at, and the whole text.
type Line struct {
	Level          string `json:"level"`
	Event          string `json:"event"`
	Message        string `json:"msg"`
	Listener       string `json:"listener"`
	Listen         string `json:"listen"`
	Forward        string `json:"forward"`
	Protocol       string `json:"protocol"`
	PeerIdentity   string `json:"peer.identity"`
	CloseReason    string `json:"close.reason"`
	CloseInitiator string `json:"close.initiator"`
	Method         string `json:"http.method"`
	Status         int    `json:"http.status"`

	Text string `json:"-"`
}

// log collects lines and tells whoever waits for the next one.
type log struct {
	mutex sync.Mutex
	lines []Line
	// grown is closed, and replaced, with each line; it stays closed once the log has ended.
	grown chan struct{}
	ended bool
}

func newLog() *log {
	return &log{grown: make(chan struct{})}
}

// collect reads source to its end. A line that is no JSON is kept as a line at level "invalid".
func (l *log) collect(source io.Reader) {
	scanner := bufio.NewScanner(source)
	scanner.Buffer(nil, 1024*1024)
	for scanner.Scan() {
		line := Line{Text: scanner.Text()}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			line.Level, line.Message = "invalid", fmt.Sprintf("not JSON: %v", err)
		}
		l.append(line)
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.ended = true
	close(l.grown)
}

func (l *log) append(line Line) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.lines = append(l.lines, line)
	close(l.grown)
	l.grown = make(chan struct{})
}

// snapshot gives the lines so far and a channel that is closed when there are more, or nil at the end.
func (l *log) snapshot() ([]Line, <-chan struct{}) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.ended {
		return l.lines, nil
	}
	return l.lines, l.grown
}
