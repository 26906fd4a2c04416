// By default SIGUSR1 opens Node's debugger.
process.on('SIGUSR1', () => undefined);

// `node dist/admin/health-check.js [URL]`: exits with 0 if the proxy is alive, else with 1. The image's HEALTHCHECK.
const [url = 'http://127.0.0.1:9237/-/liveness'] = process.argv.slice(2);
try {
  const { ok } = await fetch(url);
  process.exitCode = ok ? 0 : 1;
} catch {
  process.exitCode = 1;
}
export {};
