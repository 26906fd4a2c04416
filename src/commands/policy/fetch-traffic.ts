import * as z from 'zod';

import { codeOrMessage } from '../../error-codes.js';
import { MAX_SHOWN_VALUE_LENGTH, MAX_TRAFFIC_PAGE_BYTES, TRAFFIC_PAGE_MS } from '../../limits.js';
import type { TrafficReport } from '../../policy/observed-traffic.js';
import { cut, printable } from '../../printable.js';

/** The observed traffic could not be read. Its message has the fix. */
export class TrafficUnavailable extends Error {}

const count = z.int().nonnegative();
const seen = { first_seen: z.iso.datetime(), last_seen: z.iso.datetime() };
const operation = z.enum(['accessor', 'mutator', 'maintenance', 'none', 'unknown']);

/** Keys that a later version adds are ignored. */
const trafficPage: z.ZodType<TrafficReport> = z.object({
  since: z.iso.datetime(),
  missing_workers: count,
  evicted: z.object({ clients: count, rpcs: count }),
  total: count,
  clients: z.array(
    z.object({
      listener: z.string(),
      identities: z.array(z.string()),
      tls_version: z.string().nullable(),
      server_name: z.string().nullable(),
      certificate: z.string(),
      authorities: z.array(z.object({ name: z.string(), key_sha256: z.string().nullable() })),
      connections: count,
      ...seen,
      rpcs: z.array(
        z.object({
          rpc: z.string().includes('/'),
          operation,
          calls: count,
          decisions: z.object({ allowed: count, denied: count, would_deny: count }),
          rule: z.string().nullable(),
          refused_by_upstream: count,
          ...seen,
        }),
      ),
    }),
  ),
});

/**
 * Fetches the observed traffic of a running proxy, within a time and a size.
 * @throws TrafficUnavailable
 */
export async function fetchTraffic(page: URL, timeoutMs: number = TRAFFIC_PAGE_MS): Promise<TrafficReport> {
  const { status, body } = await fetchPage(page, timeoutMs);
  if (status === 404)
    throw unavailable(
      page,
      'the page does not exist',
      'give the admin port of a gitaly-tls-proxy with this page',
    );
  if (status !== 200) {
    const [line = ''] = body.split('\n', 1);
    const fix = 'give the IP address of the admin port, or add its name to admin_hosts';
    throw unavailable(page, `status ${status}: ${printable(cut(line, MAX_SHOWN_VALUE_LENGTH))}`, fix);
  }
  try {
    return trafficPage.parse(JSON.parse(body));
  } catch {
    const fix = 'give the URL of prometheus_listen_addr of a gitaly-tls-proxy of this version';
    throw unavailable(page, 'the answer is not the observed traffic of a gitaly-tls-proxy', fix);
  }
}

async function fetchPage(page: URL, timeoutMs: number): Promise<{ status: number; body: string }> {
  try {
    const response = await fetch(page, {
      signal: AbortSignal.timeout(timeoutMs),
      redirect: 'error',
      headers: { connection: 'close' },
    });
    const decoder = new TextDecoder();
    let size = 0;
    let body = '';
    const chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array> = response.body ?? [];
    for await (const bytes of chunks) {
      size += bytes.length;
      if (size > MAX_TRAFFIC_PAGE_BYTES)
        throw unavailable(
          page,
          `the answer has more than ${MAX_TRAFFIC_PAGE_BYTES} bytes`,
          'check the address',
        );
      body += decoder.decode(bytes, { stream: true });
    }
    return { status: response.status, body };
  } catch (error) {
    if (error instanceof TrafficUnavailable) throw error;
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      const fix = 'check that the address is that of the admin port, and that the proxy is not overloaded';
      throw unavailable(page, `no complete answer within ${timeoutMs / 1000} s`, fix);
    }
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const fix =
      'run the command on the machine of the proxy, with the address of prometheus_listen_addr, and check that the proxy runs';
    throw unavailable(page, codeOrMessage(cause), fix);
  }
}

function unavailable({ origin }: URL, what: string, fix: string): TrafficUnavailable {
  return new TrafficUnavailable(`cannot read the observed traffic from ${origin}: ${what}; fix: ${fix}`);
}

/** Describes what is missing in the traffic, in one sentence each. */
export function gaps({ evicted, missing_workers: missing, total, clients }: TrafficReport): string[] {
  return [
    ...(evicted.clients > 0
      ? [
          `${evicted.clients} groups of clients with ${evicted.rpcs} RPCs were evicted: what they did is not included.`,
        ]
      : []),
    ...(missing > 0 ? [`${missing} workers did not answer: run the command again.`] : []),
    ...(clients.length < total
      ? [`Only ${clients.length} of ${total} groups of clients are on the page: the others are not included.`]
      : []),
  ];
}
