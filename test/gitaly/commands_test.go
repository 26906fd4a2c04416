package gitaly

import (
	"bytes"
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
func (s *setup) gitEnvironment(address, path, command string, sidechannel bool) []string {
	payload := fmt.Sprintf(
		`{"repository":{"storageName":"default","relativePath":%q,"glRepository":"project-1"},"gitProtocol":"version=2"`, path)
	if command == "receive-pack" {
		payload += `,"glId":"user-1","glUsername":"somebody","glRepository":"project-1"`
	}
	environment := []string{
		"GIT_SSH_VARIANT=simple",
		"GIT_SSH_COMMAND=" + filepath.Join(s.binaries, "gitaly-ssh") + " " + command,
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

// tryGit runs it without any configuration of the machine. The error holds what it said.
func tryGit(t testing.TB, directory string, environment []string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(contextOf(t), "git", arguments...)
	command.Dir = directory
	command.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + directory, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
	}, environment...)
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

// makeRepository has so many commits, each with a file of so many bytes that do not compress.
func makeRepository(t testing.TB, commits, bytes int) string {
	t.Helper()
	directory := t.TempDir()
	git(t, directory, nil, "init", "--quiet", "--initial-branch=main")
	state := uint64(0x9e3779b97f4a7c15)
	for index := range commits {
		content := make([]byte, bytes)
		for offset := range content {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			content[offset] = byte(state)
		}
		commit(t, directory, fmt.Sprintf("file %d", index), content)
	}
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
