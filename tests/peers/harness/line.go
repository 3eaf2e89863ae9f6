// Package harness is what the two real peers have in common: a devp2p node on loopback that
// obeys commands, one JSON object a line on stdin, and tells what happens, one a line on stdout.
//
// A command is {"do": NAME, "id": N, ...}; its answer {"reply": N, ...} or {"reply": N, "error":
// TEXT}. Anything else on stdout is {"event": NAME, ...}. Byte strings are hex. End of stdin ends
// the process.
package harness

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// maxLineBytes: a packet of 16 MiB, in hex, and what is around it.
const maxLineBytes = 40 << 20

// Fields of an answer or an event.
type Fields map[string]any

// Hex is bytes that JSON shows as hex.
type Hex []byte

func (h Hex) MarshalJSON() ([]byte, error) {
	return json.Marshal(hex.EncodeToString(h))
}

func (h *Hex) UnmarshalJSON(text []byte) error {
	var written string
	if err := json.Unmarshal(text, &written); err != nil {
		return err
	}
	decoded, err := hex.DecodeString(written)
	*h = decoded
	return err
}

// Handler obeys one command; `raw` is the whole line.
type Handler func(raw json.RawMessage) (Fields, error)

// With decodes the command's arguments into a T.
func With[T any](do func(arguments T) (Fields, error)) Handler {
	return func(raw json.RawMessage) (Fields, error) {
		var arguments T
		if err := json.Unmarshal(raw, &arguments); err != nil {
			return nil, err
		}
		return do(arguments)
	}
}

var stdout struct {
	sync.Mutex
	*bufio.Writer
}

func init() {
	stdout.Writer = bufio.NewWriterSize(os.Stdout, 1<<16)
}

func write(fields Fields) {
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	stdout.Lock()
	defer stdout.Unlock()
	stdout.Write(append(line, '\n'))
	stdout.Flush()
}

// Emit tells that something happened.
func Emit(event string, fields Fields) {
	if fields == nil {
		fields = Fields{}
	}
	fields["event"] = event
	write(fields)
}

// Serve obeys commands in their order until stdin ends.
func Serve(handlers map[string]Handler) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		var head struct {
			Do string
			ID int
		}
		raw := append([]byte(nil), lines.Bytes()...)
		answer, err := Fields(nil), json.Unmarshal(raw, &head)
		if handler, known := handlers[head.Do]; err == nil && known {
			answer, err = handler(raw)
		} else if err == nil {
			err = fmt.Errorf("no such command: %q", head.Do)
		}
		if answer == nil {
			answer = Fields{}
		}
		if answer["reply"] = head.ID; err != nil {
			answer["error"] = err.Error()
		}
		write(answer)
	}
}
