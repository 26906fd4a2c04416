/** What to do instead, for whoever gave no arguments. */
export const SHORTEST_WAYS = `say what to serve, or try the demo:
  gitaly-tls-proxy serve --config FILE
  gitaly-tls-proxy serve --listen tls://0.0.0.0:9999 --forward tcp://127.0.0.1:8075 --cert cert.pem --key key.pem
  gitaly-tls-proxy demo
All flags: gitaly-tls-proxy --help`;
