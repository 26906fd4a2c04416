import { once } from 'node:events';
import type { Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { MAX_CLIENT_CERTIFICATES } from '../../src/limits.js';
import { handshakeFailure } from '../../src/tls/handshake-failure.js';
import { choosePair, TlsTerminator } from '../../src/tls/terminator.js';
import { Authority, type Issued } from '../support/authority.js';
import { socketPair } from '../support/socket-pair.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { KNOWN_ADDRESS, serverMaterial, unguarded } from './material.js';

/** Both ends of a handshake with a terminator. */
async function handshake(
  terminator: TlsTerminator,
  ca: string,
  options: ConnectionOptions = {},
): Promise<{ client: TLSSocket; server: TLSSocket }> {
  const { client: raw, accepted } = await socketPair();
  const client = connectTls({ socket: raw, ca, servername: 'localhost', ALPNProtocols: ['h2'], ...options });
  client.on('error', () => undefined);
  const secured = once(client, 'secureConnect');
  secured.catch(() => undefined);
  const server = await terminator.handshake(
    accepted,
    KNOWN_ADDRESS,
    options.servername ?? 'localhost',
    0,
    () => undefined,
  );
  await secured;
  return { client, server };
}

/** The label of a handshake that fails. */
async function failure(
  begin: (client: Socket) => void,
  minVersion: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.2',
): Promise<string> {
  const authority = await Authority.create(await temporaryDirectory());
  const terminator = new TlsTerminator(await serverMaterial([await authority.server()], { minVersion }));
  const { client, accepted } = await socketPair();
  begin(client);
  const error: unknown = await terminator
    .handshake(accepted, undefined, undefined, 0, () => undefined)
    .catch((reason: unknown) => reason);
  if (!(error instanceof Error) || !('code' in error)) throw new Error(`no failure: ${String(error)}`);
  return handshakeFailure(String(error.code));
}

function tlsOn(socket: Socket, options: ConnectionOptions): void {
  connectTls({
    socket,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
    ...options,
  }).on('error', () => undefined);
}

describe('a handshake', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('%s: AES-128 first, ALPN h2', async (version) => {
    const authority = await Authority.create(await temporaryDirectory());
    const terminator = new TlsTerminator(await serverMaterial([await authority.server()]));
    const options = { minVersion: version, maxVersion: version };
    const { client, server } = await handshake(terminator, authority.caPem, options);
    expect(client.authorized).toBe(true);
    expect(server.getProtocol()).toBe(version);
    expect(server.alpnProtocol).toBe('h2');
    expect(server.getCipher().standardName).toBe(
      version === 'TLSv1.3' ? 'TLS_AES_128_GCM_SHA256' : 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256',
    );
  });

  test('of several connections at once each settles with its own socket', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const terminator = new TlsTerminator(await serverMaterial([await authority.server()]));
    const pairs = await Promise.all(Array.from({ length: 8 }, () => handshake(terminator, authority.caPem)));
    for (const [index, { client, server }] of pairs.entries()) {
      server.write(`for ${index}`);
      expect(String(await once(client, 'data'))).toBe(`for ${index}`);
    }
  });

  test('renegotiation is off', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const terminator = new TlsTerminator(await serverMaterial([await authority.server()]));
    const { client, server } = await handshake(terminator, authority.caPem, { maxVersion: 'TLSv1.2' });
    server.on('error', () => undefined);
    const error = await new Promise<Error | null>((resolve) => {
      client.renegotiate({}, resolve);
      client.once('error', resolve);
    });
    expect(error).toBeInstanceOf(Error);
  });

  test.each<[string, (client: Socket) => void, string]>([
    ['plaintext HTTP', (client) => client.write('GET / HTTP/1.1\r\n\r\n'), 'not_tls'],
    [
      'TLS 1.1',
      (client) => tlsOn(client, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' }),
      'unsupported_version',
    ],
    [
      'no common cipher',
      (client) => tlsOn(client, { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' }),
      'no_shared_cipher',
    ],
    [
      'another application protocol',
      (client) => tlsOn(client, { ALPNProtocols: ['http/1.1'] }),
      'no_application_protocol',
    ],
    ['a client that leaves', (client) => client.end(Buffer.from([22, 3, 1, 2, 0, 1])), 'reset'],
  ])('%s fails with its own label', async (_name, begin, label) => {
    expect(await failure(begin)).toBe(label);
  });

  test('TLS 1.2 where 1.3 is the least', async () => {
    expect(await failure((client) => tlsOn(client, { maxVersion: 'TLSv1.2' }), 'TLSv1.3')).toBe(
      'unsupported_version',
    );
  });
});

describe('SNI', () => {
  test.each([
    ['a.test', 'first'],
    ['b.test', 'second'],
    ['B.TEST', 'second'],
    ['x.wild.test', 'third'],
    ['exact.wild.test', 'fourth'],
    ['unknown.test', 'first'],
    ['', 'first'],
  ])('%s is served the %s certificate', async (servername, commonName) => {
    const authority = await Authority.create(await temporaryDirectory());
    const issue = (name: string, dns: string): Promise<Issued> =>
      authority.server({ commonName: name, dns: [dns] });
    const terminator = new TlsTerminator(
      await serverMaterial([
        await issue('first', 'a.test'),
        await issue('second', 'b.test'),
        await issue('third', '*.wild.test'),
        await issue('fourth', 'exact.wild.test'),
      ]),
    );
    const { client } = await handshake(terminator, authority.caPem, {
      servername,
      checkServerIdentity: () => undefined,
    });
    expect(client.getPeerX509Certificate()?.subject).toBe(`CN=${commonName}`);
  });
});

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('a session of %s', (version) => {
  test('is resumed by each terminator of the same set, and by no other', async () => {
    const authority = await Authority.create(await temporaryDirectory());
    const certificate = await authority.server();
    const parts = await serverMaterial([certificate]);
    const [one, same] = [new TlsTerminator(parts), new TlsTerminator(parts)];
    const other = new TlsTerminator(await serverMaterial([certificate]));
    const options = { minVersion: version, maxVersion: version };
    const { client, server } = await handshake(one, authority.caPem, options);
    const session = client.getSession();
    // In TLS 1.3 the ticket comes after the handshake, with the first read.
    const ticket = version === 'TLSv1.3' ? (once(client, 'session') as Promise<[Buffer]>) : [session];
    client.resume();
    server.write('x');
    const [resumable] = await ticket;
    if (!resumable) throw new Error('no session');
    const again = await handshake(one, authority.caPem, { ...options, session: resumable });
    expect(again.server.isSessionReused()).toBe(true);
    const inSameSet = await handshake(same, authority.caPem, { ...options, session: resumable });
    expect(inSameSet.server.isSessionReused()).toBe(true);
    const elsewhere = await handshake(other, authority.caPem, { ...options, session: resumable });
    expect(elsewhere.server.isSessionReused()).toBe(false);
  });
});

describe.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'a session of %s of a client with a certificate',
  (version) => {
    const END = new Date(Math.floor(Date.now() / 1000) * 1000 + 3_600_000);
    const options = { minVersion: version, maxVersion: version };

    /** Terminators in two processes with the same clock, and a session that was begun with the first. */
    async function begin(chain: 'its CA' | 'its CRL' | 'an intermediate' | 'nothing') {
      const directory = await temporaryDirectory();
      const authority = await Authority.create(directory);
      const clients = await Authority.create(
        directory,
        'clients',
        chain === 'its CA' ? { notAfter: END } : {},
      );
      const issuer =
        chain === 'an intermediate' ? await clients.intermediate('between', { notAfter: END }) : clients;
      const parts = await serverMaterial([await authority.server()], {
        clientAuth: 'require',
        clientCa: clients.caPath,
        ...(chain === 'its CRL' && { clientCrl: await clients.revocationList([], { nextUpdate: END }) }),
      });
      const clock = { ms: Date.now() };
      const ends: number[] = [];
      const terminators = [0, 1].map(
        () =>
          new TlsTerminator(
            parts,
            unguarded({ now: () => clock.ms, onSessionsEnd: (atMs) => ends.push(atMs) }),
          ),
      );
      const [one, other] = terminators;
      if (!one || !other) throw new Error('no terminators');
      const { certificatePem, keyPem } = await issuer.client();
      const presenting = { ...options, cert: certificatePem, key: keyPem };
      const { client, server } = await handshake(one, authority.caPem, presenting);
      expect(server.authorized).toBe(true);
      const ticket =
        version === 'TLSv1.3' ? (once(client, 'session') as Promise<[Buffer]>) : [client.getSession()];
      client.resume();
      server.write('x');
      const [session] = await ticket;
      if (!session) throw new Error('no session');
      const resumedBy = async (terminator: TlsTerminator): Promise<boolean> =>
        (await handshake(terminator, authority.caPem, { ...presenting, session })).server.isSessionReused();
      return { authority, presenting, session, one, other, clock, ends, resumedBy };
    }

    test.each(['its CA', 'its CRL'] as const)(
      'is resumed until %s expires, in each process',
      async (chain) => {
        const { one, other, clock, ends, resumedBy } = await begin(chain);
        clock.ms = END.getTime() - 1;
        expect([await resumedBy(one), await resumedBy(other)]).toEqual([true, true]);
        clock.ms = END.getTime();
        expect([await resumedBy(one), await resumedBy(other)]).toEqual([false, false]);
        // All processes know these dates from the start.
        expect(ends).toEqual([]);
      },
    );

    test('is resumed until an intermediate that it presented expires, in each process that was notified', async () => {
      const { one, other, clock, ends, resumedBy } = await begin('an intermediate');
      expect(ends).toEqual([END.getTime()]);
      other.endSessions(END.getTime());
      clock.ms = END.getTime() - 1;
      expect([await resumedBy(one), await resumedBy(other)]).toEqual([true, true]);
      clock.ms = END.getTime();
      expect([await resumedBy(one), await resumedBy(other)]).toEqual([false, false]);
    });

    test('is refused if what it was verified with expires during its handshake', async () => {
      const { authority, presenting, session, one, clock } = await begin('an intermediate');
      const { client: raw, accepted } = await socketPair();
      const server = one.handshake(accepted, KNOWN_ADDRESS, 'localhost', 0, () => undefined);
      clock.ms = END.getTime();
      const client = connectTls({
        socket: raw,
        ca: authority.caPem,
        servername: 'localhost',
        ALPNProtocols: ['h2'],
        ...presenting,
        session,
      });
      client.on('error', () => undefined);
      await expect(server).rejects.toMatchObject({ code: 'TLS_SESSION_ENDED' });
      client.destroy();
    });

    test('is not resumed a day later, so that its client is verified anew', async () => {
      const { one, clock, resumedBy } = await begin('nothing');
      clock.ms += 86_400_000;
      expect(await resumedBy(one)).toBe(false);
    });
  },
);

test.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'a client that is refused for the number of its certificates gets no session to resume (%s)',
  async (version) => {
    const authority = await Authority.create(await temporaryDirectory());
    const terminator = new TlsTerminator(
      await serverMaterial([await authority.server()], {
        clientAuth: 'require',
        clientCa: authority.caPath,
      }),
      unguarded(),
    );
    let issuer = authority;
    for (let count = 1; count <= MAX_CLIENT_CERTIFICATES; count++)
      issuer = await issuer.intermediate(`level ${count}`);
    const { certificatePem, keyPem } = await issuer.client();
    const { client: raw, accepted } = await socketPair();
    const client = connectTls({
      socket: raw,
      ca: authority.caPem,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
      minVersion: version,
      maxVersion: version,
      cert: certificatePem,
      key: keyPem,
    });
    const events: string[] = [];
    for (const event of ['secureConnect', 'session']) client.on(event, () => events.push(event));
    client.on('error', () => undefined);
    const closed = new Promise((resolve) => client.once('close', resolve));
    client.resume();
    await expect(
      terminator.handshake(accepted, KNOWN_ADDRESS, 'localhost', 0, () => undefined),
    ).rejects.toThrow(/7 certificates/);
    await closed;
    // In TLS 1.3 the handshake is over for the client before the server has read its certificates.
    expect(events).toEqual(version === 'TLSv1.3' ? ['secureConnect'] : []);
  },
);

describe('choosePair', () => {
  const pair = (...dns: string[]): { names: { dns: string[]; ip: string[]; uri: string[] } } => ({
    names: { dns, ip: [], uri: [] },
  });

  test('an exact name goes before a wildcard, wherever they stand', () => {
    const [wildcard, exact] = [pair('*.test'), pair('other', 'a.test')];
    for (const pairs of [
      [wildcard, exact],
      [exact, wildcard],
    ]) {
      expect(choosePair(pairs, 'a.test')).toBe(exact);
      expect(choosePair(pairs, 'A.Test')).toBe(exact);
      expect(choosePair(pairs, 'b.test')).toBe(wildcard);
    }
  });

  test('a wildcard stands for one label, and not for none', () => {
    const pairs = [pair('*.a.test')];
    expect(choosePair(pairs, 'x.a.test')).toBe(pairs[0]);
    for (const name of ['a.test', 'x.y.a.test', '.a.test', 'x.b.test', ''])
      expect(choosePair(pairs, name)).toBeUndefined();
  });

  test('of equals the first is chosen', () => {
    const pairs = [pair('a.test'), pair('a.test')];
    expect(choosePair(pairs, 'a.test')).toBe(pairs[0]);
  });

  test('any name never throws', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        choosePair([pair('a.test', '*.test')], name);
      }),
    );
  });
});
