package gitaly

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// remote is whatever: where git goes is said by its environment.
const remote = "ssh://git@gitaly/x.git"

// gitEnvironment makes git call Gitaly as gitlab-shell does.
func (c *common) gitEnvironment(address, path, command string, sidechannel bool) []string {
	payload := fmt.Sprintf(
		`{"repository":{"storageName":"default","relativePath":%q,"glRepository":"project-1"},"gitProtocol":"version=2"`, path)
	if command == "receive-pack" {
		payload += `,"glId":"user-1","glUsername":"somebody","glRepository":"project-1"`
	}
	environment := []string{
		"GIT_SSH_VARIANT=simple",
		"GIT_SSH_COMMAND=" + filepath.Join(c.binaries, "gitaly-ssh") + " " + command,
		"GITALY_ADDRESS=" + address,
		"GITALY_TOKEN=" + Token,
		"GITALY_PAYLOAD=" + payload + "}",
		"SSL_CERT_FILE=" + os.Getenv("SSL_CERT_FILE"),
	}
	if sidechannel {
		environment = append(environment, "GITALY_USE_SIDECHANNEL=1")
	}
	return environment
}

// git runs it and gives its output.
func git(t testing.TB, directory string, environment []string, arguments ...string) string {
	t.Helper()
	output, err := tryGit(t, directory, environment, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// gitCommand is git without any configuration of the machine.
func gitCommand(t testing.TB, directory string, environment []string, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(contextOf(t), "git", arguments...)
	command.Dir = directory
	command.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + directory, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}, environment...)
	return command
}

// tryGit runs it. The error holds what it said.
func tryGit(t testing.TB, directory string, environment []string, arguments ...string) (string, error) {
	t.Helper()
	command := gitCommand(t, directory, environment, arguments...)
	var output, problems bytes.Buffer
	command.Stdout, command.Stderr = &output, &problems
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w\n%s", strings.Join(arguments, " "), err, problems.String())
	}
	return output.String(), nil
}

// headOf is the commit that is checked out.
func headOf(t testing.TB, directory string) string {
	t.Helper()
	return strings.TrimSpace(git(t, directory, nil, "rev-parse", "HEAD"))
}

// makeRepository has so many commits, each with a file of so many bytes that do not compress. They come in by one
// process and as one pack, from which git sends them as they are: three processes a commit, and a search for what two
// blobs of noise have in common, would be most of the time that a test takes.
func makeRepository(t testing.TB, commits, bytes int) string {
	t.Helper()
	directory := t.TempDir()
	git(t, directory, nil, "init", "--quiet", "--initial-branch=main")
	importing := gitCommand(t, directory, nil,
		"-c", "core.compression=0", "-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", "--depth=0")
	input, err := importing.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var problems strings.Builder
	importing.Stderr = &problems
	if err := importing.Start(); err != nil {
		t.Fatal(err)
	}
	stream := bufio.NewWriter(input)
	state := uint64(0x9e3779b97f4a7c15)
	for index := range commits {
		name := fmt.Sprintf("file %d", index)
		fmt.Fprintf(stream, "commit refs/heads/main\ncommitter a <a@example.com> %d +0000\ndata %d\n%s\n", index, len(name), name)
		fmt.Fprintf(stream, "M 100644 inline %s\ndata %d\n", name, bytes)
		for range bytes {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			_ = stream.WriteByte(byte(state))
		}
		_ = stream.WriteByte('\n')
	}
	// The writer keeps its first error.
	if err := errors.Join(stream.Flush(), input.Close(), importing.Wait()); err != nil {
		t.Fatalf("git fast-import: %v\n%s", err, problems.String())
	}
	git(t, directory, nil, "reset", "--quiet", "--hard")
	return directory
}

func commit(t testing.TB, directory, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, directory, nil, "add", ".")
	git(t, directory, nil, "commit", "--quiet", "-m", name)
}
