import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';

import { DemoBackend } from './demo-backend.js';
import { demoConfiguration, portOrAnyFree, DEMO_PORTS } from './demo-configuration.js';
import { createThrowawayCertificates, type ThrowawayCertificates } from './throwaway-certificates.js';
import type { Proxy } from '../../serving/proxy.js';
import { runProxy } from '../serve/run-proxy.js';
import { shellWord } from '../completion/shell-word.js';
import { DEMO_CALL_MS } from '../../limits.js';
import { readContent } from '../../files/read-file.js';
import { HEALTH_REQUEST, HEALTH_SERVING, healthService } from './demo-service.js';

/** Runs the demo until Ctrl-C, then removes its files. Returns the exit code. */
export async function demo(program: string): Promise<number> {
  endWithTerminal();
  const early = noteEarlySignals();
  // mkdtemp creates it with mode 0700.
  const directory = await mkdtemp(join(tmpdir(), 'gitaly-tls-proxy-demo-'));
  let backend: DemoBackend | undefined;
  try {
    const certificates = await createThrowawayCertificates(directory);
    backend = await DemoBackend.start(await portOrAnyFree(DEMO_PORTS.backend));
    const ports = {
      backend: backend.port,
      tls: await portOrAnyFree(DEMO_PORTS.tls),
      tcp: await portOrAnyFree(DEMO_PORTS.tcp),
      metrics: await portOrAnyFree(DEMO_PORTS.metrics),
    };
    const configuration = demoConfiguration(certificates, ports);
    if (early.came()) return 0;
    const { port: backendPort } = backend;
    const running = runProxy({
      load: () =>
        Promise.resolve({
          file: undefined,
          configuration,
          understood: configuration,
          problems: [],
          locate: () => undefined,
        }),
      program,
      logging: configuration.logging,
      whenReady: (proxy, print) => introduce(proxy, certificates, backendPort, print),
    });
    early.leaveToProxy();
    return await running;
  } finally {
    backend?.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Until `runProxy` handles signals, a signal would end the process and leave the directory with its keys behind.
 */
function noteEarlySignals(): { came: () => boolean; leaveToProxy: () => void } {
  let came = false;
  const note = (): void => {
    came = true;
  };
  process.on('SIGINT', note);
  process.on('SIGTERM', note);
  return {
    came: () => came,
    leaveToProxy: () => {
      process.off('SIGINT', note);
      process.off('SIGTERM', note);
    },
  };
}

/** The demo has nothing to reload: SIGHUP means that its terminal was closed, and ends it as Ctrl-C does. */
function endWithTerminal(): void {
  process.on('SIGHUP', () => process.kill(process.pid, 'SIGTERM'));
}

async function introduce(
  proxy: Proxy,
  certificates: ThrowawayCertificates,
  backendPort: number,
  print: (text: string) => void,
): Promise<void> {
  const [tlsUrl = '', tcpUrl = ''] = proxy.listenUrls;
  const adminUrl = proxy.adminUrl ?? '';
  const tlsTarget = new URL(tlsUrl).host;
  await callHealth(tlsTarget, certificates.caPath);

  const places: [string, string, number][] = [
    ['TLS listener', tlsUrl, DEMO_PORTS.tls],
    ['plaintext listener', tcpUrl, DEMO_PORTS.tcp],
    ['backend in place of Gitaly', `tcp://127.0.0.1:${backendPort}`, DEMO_PORTS.backend],
    ['metrics', `${adminUrl}/metrics`, DEMO_PORTS.metrics],
  ];
  const lines = places.map(([what, url, usual]) => {
    const taken = new URL(url).port === String(usual) ? '' : `   (port ${usual} is in use)`;
    return `  ${what.padEnd(27)} ${url}${taken}`;
  });
  // The program may not be in the PATH.
  const program = process.argv.slice(0, 2).map(shellWord).join(' ');
  // The user's shell may be configured to use a web proxy, which cannot reach this machine's loopback.
  const scrape = `curl -s --noproxy '*' ${adminUrl}/metrics`;
  print(`
Health check through ${tlsUrl} ... passed

${lines.join('\n')}
  ${'CA, certificates and keys'.padEnd(27)} ${join(certificates.caPath, '..')}

Try, in another terminal:
  ${program} check ${tlsUrl} --ca ${shellWord(certificates.caPath)}
  openssl s_client -connect ${tlsTarget} -alpn h2 -CAfile ${shellWord(certificates.caPath)} -verify_return_error </dev/null
  ${scrape}
  ${scrape} | grep '^gitaly_connections_total'

Ctrl-C ends the demo and removes its files.

`);
}

/**
 * Makes one health call through a TLS listener, as `gitlab-rake gitlab:gitaly:check` does.
 * Rejects with the gRPC error if it fails, or if the answer is not SERVING.
 */
async function callHealth(target: string, caPath: string): Promise<void> {
  const options = {
    // An IP address is not a valid server name (RFC 6066 section 3); the certificate contains this one too.
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.default_authority': 'localhost',
    // The environment may name a web proxy, which cannot reach this machine's loopback.
    'grpc.enable_http_proxy': 0,
  };
  const client = new Client(target, credentials.createSsl((await readContent(caPath)).bytes), options);
  try {
    await new Promise<void>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = healthService.check;
      const deadline = Date.now() + DEMO_CALL_MS;
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        HEALTH_REQUEST,
        { deadline },
        (error, answer) => {
          if (error) reject(error);
          else if (answer?.equals(HEALTH_SERVING)) resolve();
          else reject(new Error('the health check did not answer SERVING'));
        },
      );
    });
  } finally {
    client.close();
  }
}
