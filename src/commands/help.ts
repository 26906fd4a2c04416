/** The help texts; `command-line.ts` chooses between them. */

const EXIT_CODES = `Exit codes: 0 fine, 1 failed while running, 2 wrong configuration or usage.`;

export const MAIN_HELP = `gitaly-tls-proxy terminates TLS in front of Gitaly and relays what is inside, the backchannel included.

Usage: gitaly-tls-proxy [COMMAND] [FLAGS]

Commands:
  serve                           run the proxy (the default: flags alone mean serve)
  demo                            run with throwaway certificates and a backend in Gitaly's place
  configuration validate [FILE]   check a configuration file and the certificates it names

Flags:
  --help, -h                      this text; after a command, the help of that command
  --version, -V                   the version

Start with one of:
  gitaly-tls-proxy demo
  gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 --cert cert.pem --key key.pem
  gitaly-tls-proxy serve --config gitaly-tls-proxy.yaml

${EXIT_CODES}
`;

export const SERVE_HELP = `Runs the proxy until SIGTERM or SIGINT, which let open connections finish; a second one stops at once.
SIGHUP reads configuration and certificates again; certificates are also reloaded when their files change.

Usage: gitaly-tls-proxy serve --config FILE
       gitaly-tls-proxy serve --listen URL --forward URL --cert FILE --key FILE [FLAGS]

Flags:
  --config FILE                        the configuration file (YAML); goes with no other flag
  --listen URL                         where clients connect: tls://host:port, tcp://host:port or unix:/path; for HTTP
                                       https://host:port or http://host:port; may be repeated, each time with its
                                       --forward
  --forward URL                        where they are connected to: tcp://host:port, dns:host:port, unix:/path
                                       or tls://host:port; for HTTP http://host or https://host
  --cert FILE                          certificate for tls:// and https:// listeners, leaf first, then intermediates (PEM)
  --key FILE                           its private key (PEM)
  --client-ca FILE                     authorities to verify client certificates with: a file or a directory
  --client-auth none|optional|require  whether clients present a certificate (default: none)
  --prometheus-listen-addr HOST:PORT   serve metrics, liveness and readiness there
  --help, -h                           this text

${EXIT_CODES}
`;

export const DEMO_HELP = `Runs with nothing prepared: makes a throwaway authority, certificates and a gRPC backend in Gitaly's place, puts a
tls:// and a tcp:// listener in front of it, makes a health call and prints what to try. Ctrl-C ends it and removes
what it made.

Usage: gitaly-tls-proxy demo

Flags:
  --help, -h   this text
`;

export const CONFIGURATION_HELP = `Usage: gitaly-tls-proxy configuration validate [FILE]

Commands:
  validate [FILE]   check a configuration file and the certificates it names

Flags:
  --help, -h        this text
`;

export const VALIDATE_HELP = `Checks a configuration file and the certificate files that it names, as gitaly does with its own: prints nothing and
exits with 0 when all is well; else prints {"errors":[{"key":[...],"message":...,"line":...}]} and exits with 2.
Warnings go to stderr and change nothing.

Usage: gitaly-tls-proxy configuration validate [FILE]

Without FILE, or with -, the configuration is read from stdin and relative paths are relative to the working directory.

Flags:
  --help, -h   this text
`;

/** What to do instead, for whoever gave no arguments. */
export const SHORTEST_WAYS = `say what to serve, or try the demo:
  gitaly-tls-proxy serve --config FILE
  gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 --cert cert.pem --key key.pem
  gitaly-tls-proxy demo
All flags: gitaly-tls-proxy --help`;
