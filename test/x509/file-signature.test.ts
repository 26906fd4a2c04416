import { chmod, mkdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { DEFAULT_LOGGING } from '../../src/config/defaults.js';
import type { Configuration, ListenerConfiguration } from '../../src/config/model.js';
import { ABUSE_LIMITS } from '../../src/limits.js';
import { fileSignature, watchedPaths } from '../../src/x509/file-signature.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { file } from '../tls/material.js';

const OLD = new Date('2026-01-01T00:00:00Z');

/** A step must change the signature, and without one it stays. */
async function expectChange(paths: readonly string[], step: () => Promise<unknown>): Promise<void> {
  const before = await fileSignature(paths);
  expect(await fileSignature(paths)).toBe(before);
  await step();
  const after = await fileSignature(paths);
  expect(after).not.toBe(before);
  expect(await fileSignature(paths)).toBe(after);
}

describe('a file', () => {
  test.each<[string, (path: string) => Promise<unknown>]>([
    ['is written', (path) => writeFile(path, 'other')],
    [
      'is replaced by one that looks the same',
      async (path) => {
        await writeFile(`${path}.new`, 'first');
        await utimes(`${path}.new`, OLD, OLD);
        await rename(`${path}.new`, path);
      },
    ],
    ['gets another mode', (path) => chmod(path, 0o600)],
    ['is removed', (path) => rm(path)],
  ])('%s', async (_name, step) => {
    const path = join(await temporaryDirectory(), 'cert.pem');
    await writeFile(path, 'first', { mode: 0o644 });
    await utimes(path, OLD, OLD);
    await expectChange([path], () => step(path));
  });

  test('appears', async () => {
    const path = join(await temporaryDirectory(), 'cert.pem');
    await expectChange([path], () => writeFile(path, ''));
  });

  test("of Kubernetes' layout: the link `..data` is swapped", async () => {
    const mount = await temporaryDirectory();
    for (const version of ['..1', '..2']) {
      await mkdir(join(mount, version));
      await writeFile(join(mount, version, 'tls.crt'), 'same');
      await utimes(join(mount, version, 'tls.crt'), OLD, OLD);
    }
    await symlink('..1', join(mount, '..data'));
    await symlink('..data/tls.crt', join(mount, 'tls.crt'));
    await expectChange([join(mount, 'tls.crt')], async () => {
      await symlink('..2', join(mount, '..data_tmp'));
      await rename(join(mount, '..data_tmp'), join(mount, '..data'));
    });
    // A trust directory of the same layout.
    await expectChange([mount], async () => {
      await symlink('..1', join(mount, '..data_tmp'));
      await rename(join(mount, '..data_tmp'), join(mount, '..data'));
    });
  });
});

describe('a directory', () => {
  test.each<[string, (directory: string) => Promise<unknown>]>([
    ['a file is added', (directory) => writeFile(join(directory, 'b.pem'), '')],
    ['a file is removed', (directory) => rm(join(directory, 'a.pem'))],
    ['a file is renamed', (directory) => rename(join(directory, 'a.pem'), join(directory, 'c.pem'))],
    ['a file is written in place', (directory) => writeFile(join(directory, 'a.pem'), 'longer than before')],
    ["a file's mode changes", (directory) => chmod(join(directory, 'a.pem'), 0o600)],
    ['a dangling link is added', (directory) => symlink('nowhere', join(directory, 'x.0'))],
  ])('%s', async (_name, step) => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'a.pem'), 'first', { mode: 0o644 });
    await utimes(join(directory, 'a.pem'), OLD, OLD);
    await expectChange([directory], () => step(directory));
  });

  test('what a link in it points to is written', async () => {
    const [directory, elsewhere] = [await temporaryDirectory(), await temporaryDirectory()];
    const target = join(elsewhere, 'ca.pem');
    await writeFile(target, 'first');
    await symlink(target, join(directory, 'ca.pem'));
    await expectChange([directory], () => writeFile(target, 'longer than before'));
  });
});

test('what cannot be looked at is part of the signature, and no error', async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'file'), '');
  const signature = await fileSignature([join(directory, 'nowhere'), join(directory, 'file', 'below')]);
  expect(signature).toContain('ENOENT');
  expect(signature).toContain('ENOTDIR');
});

test('watchedPaths names every file of a configuration once', () => {
  const listener: ListenerConfiguration = {
    key: [],
    listen: { scheme: 'tls', host: '::', port: 1, url: 'tls://[::]:1' },
    forwarding: { routes: [], fallback: { scheme: 'tls', host: 'a', port: 1, url: 'tls://a:1' } },
    tls: {
      certificates: [
        { certificate: file('/cert'), key: file('/key') },
        { certificate: file('/b/cert'), key: file('/b/key') },
      ],
      minVersion: 'TLSv1.2',
      clientAuth: 'require',
      clientCa: { files: [file('/client-ca')], directories: [file('/client-cas')] },
      clientCrl: file('/crl'),
      requireAlpn: true,
      protocols: ['h2'],
    },
    socket: undefined,
    upstreamTls: {
      ca: { files: [file('/upstream-ca')], directories: [] },
      certificate: { certificate: file('/client-cert'), key: file('/client-key') },
      serverName: 'a',
      minVersion: 'TLSv1.2',
      protocol: 'h2',
    },
    http: undefined,
    proxyProtocol: { acceptFrom: [], send: undefined },
    timeouts: { handshakeMs: 1, prefaceMs: 1, dialMs: 1, halfCloseMs: 1, writeStallMs: 1, idleMs: 1 },
    maxConnections: 1,
    maxUnauthenticatedConnections: 1,
    maxConnectionsPerSource: undefined,
    maxConnectionAge: undefined,
    abuseLimits: ABUSE_LIMITS,
    inspect: 'on',
    clientAllow: undefined,
    policy: undefined,
    upstreamToken: undefined,
    upstreamMetadata: [],
  };
  const configuration: Configuration = {
    listeners: [listener, listener, { ...listener, tls: undefined, upstreamTls: undefined }],
    prometheusListenAddr: undefined,
    adminHosts: [],
    workers: 1,
    gracefulRestartTimeoutMs: 1,
    rpcs: [],
    audit: undefined,
    healthChecks: undefined,
    logging: DEFAULT_LOGGING,
  };
  expect(watchedPaths(configuration)).toEqual([
    '/b/cert',
    '/b/key',
    '/cert',
    '/client-ca',
    '/client-cas',
    '/client-cert',
    '/client-key',
    '/crl',
    '/key',
    '/upstream-ca',
  ]);
});
