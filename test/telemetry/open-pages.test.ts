import { expect, test } from 'vitest';

import { listRpcs } from '../../src/telemetry/open-pages.js';
import type { ConnectionStatus } from '../../src/connection/connection-status.js';
import { CallPool } from '../../src/inspect/call-pool.js';
import { GrpcCall } from '../../src/inspect/grpc/call.js';
import { SendWindow } from '../../src/inspect/send-window.js';

test('a page of calls looks at as many as it shows, however many are open', () => {
  let looks = 0;
  const owner = {
    get status(): ConnectionStatus {
      looks++;
      return {
        id: 1,
        listener: 'tls://127.0.0.1:1',
        facts: {
          acceptedAtMs: 0,
          socketEnd: undefined,
          localEnd: undefined,
          clientEnd: undefined,
          serverName: undefined,
          upstream: undefined,
          tls: undefined,
          identity: undefined,
          identities: [],
          hasVerifiedCertificate: false,
          observed: undefined,
          isAuthenticated: true,
          protocol: 'http2',
          advice: undefined,
        },
        stage: 'relaying',
        bytesToUpstream: 0,
        bytesToClient: 0,
        queuedToUpstream: 0,
        queuedToClient: 0,
        inspection: 'followed',
        inspector: undefined,
        requests: undefined,
      };
    },
  };
  const calls = new CallPool<typeof owner>(10_000);
  const share = calls.share(owner);
  const observer = { moved: () => undefined, ended: () => undefined, lost: () => undefined };
  for (let streamId = 1; streamId < 8000; streamId += 2) {
    share.take();
    const windows = { client: new SendWindow(1), server: new SendWindow(1) };
    const context = { protocol: 'http2', direction: 'to_upstream' } as const;
    share.add(new GrpcCall(streamId, context, windows, { started: () => observer }));
  }
  const page = listRpcs(calls, 3, 0);
  expect(page.open).toBe(4000);
  expect(page.entries.map(({ stream_id: id }) => id)).toEqual([1, 3, 5]);
  expect(looks).toBe(3);
});
