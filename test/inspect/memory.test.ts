import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { expect, test } from 'vitest';

import { inspectConnection, type ConnectionInspector } from '../../src/inspect/connection-inspector.js';
import { CLIENT_PREFACE } from '../../src/inspect/http2/http2-frame.js';
import { frame as http2Frame } from '../support/http2-frames.js';
import { yamux } from '../support/yamux-frames.js';

const MIB = 1024 * 1024;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function begin(protocol: 'http2' | 'backchannel'): ConnectionInspector {
  const observer = { moved: () => undefined, ended: () => undefined, lost: () => undefined };
  return inspectConnection(protocol, { started: () => observer, sidechannelOpened: () => observer });
}

/**
 * Bytes that the inspectors of several connections hold in the end, of all that they were shown. The engine
 * itself takes some hundred KiB now and then, for code that it compiles: an attack must be made on as many
 * connections as it takes to show beside that.
 */
function heldBy(
  attack: (show: (bytes: Buffer) => string | undefined) => void,
  protocol: 'http2' | 'backchannel',
  connections = 1,
): number {
  const used = (): number => {
    collectGarbage();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const inspectors = Array.from({ length: connections }, () => begin(protocol));
  const before = used();
  for (const inspector of inspectors) attack((bytes) => inspector.read('client', bytes, 0, bytes.length, 0));
  const held = used() - before;
  for (const inspector of inspectors) inspector.end(0);
  return held;
}

test('thousands of open calls with the longest paths hold no more than a bounded part of these', () => {
  const path = Buffer.alloc(60_000, '/');
  const length = Buffer.from([0x7f, ...varint(path.length - 127)]);
  // A literal without indexing, whose name is entry 4 of the static table.
  const block = Buffer.concat([Buffer.from([0x04]), length, path]);
  // One place for all frames, so that only what the inspector keeps is new.
  const frame = http2Frame(1, 5, 1, block);
  const held = heldBy((show) => {
    expect(show(CLIENT_PREFACE)).toBeUndefined();
    for (let call = 0; call < 2000; call++) {
      frame.writeUInt32BE(2 * call + 1, 5);
      expect(show(frame)).toBeUndefined();
    }
  }, 'http2');
  expect(held).toBeLessThan(16 * MIB);
});

test('a frame that is announced and does not come holds no memory', () => {
  const connections = 64;
  const announced = 8 * 65_000;
  const held = heldBy(
    (show) => {
      show(Buffer.from('backchannel'));
      for (let stream = 0; stream < 8; stream++) {
        const begun = Buffer.concat([CLIENT_PREFACE, http2Frame(1, 4, 1, Buffer.from([0]), 65_000)]);
        expect(show(yamux(0, 1, 2 * stream + 1, begun))).toBeUndefined();
      }
    },
    'backchannel',
    connections,
  );
  expect(held).toBeLessThan((connections * announced) / 4);
});

test('gRPC connections within one backchannel are bounded', () => {
  let failure: string | undefined;
  heldBy((show) => {
    show(Buffer.from('backchannel'));
    for (let stream = 0; failure === undefined && stream < 100; stream++)
      failure = show(yamux(0, 1, 2 * stream + 1, CLIENT_PREFACE));
  }, 'backchannel');
  expect(failure).toBe('too_many_connections');
});

/** RFC 7541 section 5.1, behind a full prefix. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
