import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';

import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { certificateIdentity } from '../../src/x509/certificate-names.js';
import { judgeClient, type ClientVerdict } from '../../src/tls/client-certificate.js';
import { TlsTerminator } from '../../src/tls/terminator.js';
import { Authority, type IssueOptions, type Issued } from '../support/authority.js';
import { socketPair } from '../support/socket-pair.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { KNOWN_ADDRESS, serverMaterial, unguarded } from './material.js';

const DAY_MS = 86_400_000;

/** The server's side of a handshake with a client that presents this certificate, or none. */
async function handshake(
  { client, clientCa, clientCrl }: { client: Issued | undefined; clientCa: string; clientCrl?: string },
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const authority = await Authority.create(await temporaryDirectory(), 'server-ca');
  const terminator = new TlsTerminator(
    await serverMaterial([await authority.server()], {
      clientAuth: 'require',
      clientCa,
      ...(clientCrl !== undefined && { clientCrl }),
    }),
    unguarded(),
  );
  const { client: raw, accepted } = await socketPair();
  const tls = connectTls({
    socket: raw,
    ca: authority.caPem,
    servername: 'localhost',
    ALPNProtocols: ['h2'],
    ...(client && { cert: client.certificatePem, key: client.keyPem }),
    ...options,
  });
  tls.on('error', () => undefined);
  onTestFinished(() => void tls.destroy());
  return terminator.handshake(accepted, KNOWN_ADDRESS, 'localhost', 0, () => undefined);
}

interface Refusal {
  readonly result: string;
  readonly detail: string;
}

function refused(verdict: ClientVerdict): Refusal {
  if (verdict.kind !== 'refused') throw new Error('let in');
  return { result: verdict.fault, detail: verdict.detail };
}

/** What is said of a client whose certificate is as the options say, by the CA that is trusted. */
async function judge(options: IssueOptions): Promise<ClientVerdict> {
  const ca = await Authority.create(await temporaryDirectory(), 'clients-ca');
  return judgeClient(await handshake({ client: await ca.client(options), clientCa: ca.caPath }), 'require');
}

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('%s', (version) => {
  const versions = { minVersion: version, maxVersion: version };

  test('a good certificate is verified, and its name is told', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const client = await ca.client({ dns: ['rails.internal'] });
    const socket = await handshake({ client, clientCa: ca.caPath }, versions);
    for (const mode of ['require', 'optional', 'report'] as const) {
      const verdict = judgeClient(socket, mode);
      if (verdict.kind !== 'verified') throw new Error('refused');
      expect(certificateIdentity(verdict.certificate)).toBe('rails.internal');
    }
  });

  test('one through an intermediate, too', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const client = await (await ca.intermediate('intermediate')).client();
    const socket = await handshake({ client, clientCa: ca.caPath }, versions);
    expect(judgeClient(socket, 'require')).toMatchObject({ kind: 'verified' });
  });

  test('one whose CA is trusted without its own issuer, and one that is trusted itself', async () => {
    const root = await Authority.create(await temporaryDirectory());
    const between = await root.intermediate('between');
    const client = await between.client();
    for (const clientCa of [between.caPath, client.certificatePath]) {
      const socket = await handshake({ client, clientCa }, versions);
      expect(judgeClient(socket, 'require')).toMatchObject({ kind: 'verified' });
    }
    const [leaf = ''] = client.certificatePem.split(/(?<=-----END CERTIFICATE-----)/u);
    const alone = { ...client, certificatePem: leaf };
    const socket = await handshake({ client: alone, clientCa: between.caPath }, versions);
    expect(judgeClient(socket, 'require')).toMatchObject({ kind: 'verified' });
    const other = await root.client();
    const stranger = await handshake({ client: other, clientCa: between.caPath }, versions);
    expect(refused(judgeClient(stranger, 'require')).result).toBe('unknown_authority');
  });

  test('with CRLs, one whose CA is trusted beside its own issuer', async () => {
    const directory = await temporaryDirectory();
    const root = await Authority.create(directory);
    const between = await root.intermediate('between');
    const read = (path: string): Promise<string> => readFile(path, 'utf8');
    const clientCa = join(directory, 'both.pem');
    await writeFile(clientCa, root.caPem + '\n' + between.caPem);
    const clientCrl = join(directory, 'both.crl');
    const revoked = await between.client();
    await writeFile(
      clientCrl,
      (await read(await root.revocationList([]))) +
        (await read(await between.revocationList([revoked.serialNumber]))),
    );
    const judged = async (client: Issued): Promise<ClientVerdict> =>
      judgeClient(await handshake({ client, clientCa, clientCrl }, versions), 'require');
    expect(await judged(await between.client())).toMatchObject({ kind: 'verified' });
    expect(await judged(revoked)).toMatchObject({ kind: 'refused', fault: 'revoked' });
  });

  test('none is let in where it is optional, and refused where it is required', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const socket = await handshake({ client: undefined, clientCa: ca.caPath }, versions);
    expect(judgeClient(socket, 'optional')).toEqual({ kind: 'absent' });
    expect(judgeClient(socket, 'require')).toEqual({
      kind: 'refused',
      fault: 'absent',
      detail: 'the client sent no certificate and client_auth is require',
    });
  });

  test('one of an unknown authority is refused in both modes, with its issuer', async () => {
    const directory = await temporaryDirectory();
    const [ca, other] = [await Authority.create(directory), await Authority.create(directory, 'other-ca')];
    const client = await other.client({ dns: ['rails.internal'] });
    const socket = await handshake({ client, clientCa: ca.caPath }, versions);
    for (const mode of ['require', 'optional'] as const) {
      const { result, detail } = refused(judgeClient(socket, mode));
      expect(result).toBe('unknown_authority');
      expect(detail).toMatch(
        /^client certificate CN=rails\.internal, issued by CN=other-ca: its chain does not end in a CA of client_ca_path \(UNABLE_TO_\w+\)/,
      );
    }
  });
});

describe('refused, each with its own reason', () => {
  test('expired', async () => {
    const verdict = await judge({
      notBefore: new Date('2024-01-01T00:00:00Z'),
      notAfter: new Date('2024-06-01T00:00:00Z'),
    });
    expect(refused(verdict)).toEqual({
      result: 'expired',
      detail:
        'client certificate CN=client.test, issued by CN=clients-ca: expired; its own dates are ' +
        '2024-01-01T00:00:00.000Z to 2024-06-01T00:00:00.000Z (CERT_HAS_EXPIRED)',
    });
  });

  test('not yet valid', async () => {
    const notBefore = new Date(Math.ceil(Date.now() / DAY_MS + 2) * DAY_MS);
    const { result, detail } = refused(
      await judge({ notBefore, notAfter: new Date(notBefore.getTime() + DAY_MS) }),
    );
    expect(result).toBe('not_yet_valid');
    expect(detail).toContain(`not valid before ${notBefore.toISOString()} (CERT_NOT_YET_VALID)`);
  });

  test('meant for servers only', async () => {
    const { result, detail } = refused(await judge({ usages: ['serverAuth'] }));
    expect(result).toBe('invalid_purpose');
    expect(detail).toContain('its extended key usage must hold clientAuth');
  });

  test('meant for both is fine', async () => {
    expect(await judge({ usages: ['serverAuth', 'clientAuth'] })).toMatchObject({ kind: 'verified' });
  });

  test('self-signed', async () => {
    const directory = await temporaryDirectory();
    const [ca, other] = [await Authority.create(directory), await Authority.create(directory, 'other')];
    const leaf = await other.client();
    // The other CA's own certificate in place of a client's is no good without its key: so its client's stands in,
    // followed by the CA, as a chain that ends in itself.
    const client = { ...leaf, certificatePem: `${leaf.certificatePem}\n${other.caPem}` };
    const { result } = refused(judgeClient(await handshake({ client, clientCa: ca.caPath }), 'require'));
    expect(result).toBe('unknown_authority');
  });

  test('revoked; others of the same CA are let in', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const [revoked, good] = [await ca.client(), await ca.client()];
    const clientCrl = await ca.revocationList([revoked.serialNumber]);
    const sockets = [
      await handshake({ client: revoked, clientCa: ca.caPath, clientCrl }),
      await handshake({ client: good, clientCa: ca.caPath, clientCrl }),
    ];
    const [first, second] = sockets.map((socket) => judgeClient(socket, 'require'));
    if (!first) throw new Error('no verdict');
    const { result, detail } = refused(first);
    expect(result).toBe('revoked');
    expect(detail).toMatch(/revoked by client_crl_path \(CERT_REVOKED\)$/);
    expect(second).toMatchObject({ kind: 'verified' });
  });

  test('a CRL of another CA says nothing of this one', async () => {
    const directory = await temporaryDirectory();
    const [ca, other] = [await Authority.create(directory), await Authority.create(directory, 'other')];
    const clientCrl = await other.revocationList([]);
    const socket = await handshake({ client: await ca.client(), clientCa: ca.caPath, clientCrl });
    const { result, detail } = refused(judgeClient(socket, 'require'));
    expect(result).toBe('crl');
    expect(detail).toMatch(/contains no usable CRL for its issuer \(UNABLE_TO_GET_CRL\)$/);
  });

  test('a CRL that expires while it is in use refuses the clients of its CA', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const clientCrl = await ca.revocationList([], { nextUpdate: new Date(Date.now() - 60_000) });
    const socket = await handshake({ client: await ca.client(), clientCa: ca.caPath, clientCrl });
    expect(refused(judgeClient(socket, 'require'))).toMatchObject({
      result: 'crl',
      detail: expect.stringMatching(/CRL_HAS_EXPIRED/) as string,
    });
  });

  test('one that has expired since its handshake, which a resumed session remembers as good', async () => {
    const ca = await Authority.create(await temporaryDirectory());
    const notAfter = new Date(Date.now() + DAY_MS);
    const socket = await handshake({ client: await ca.client({ notAfter }), clientCa: ca.caPath });
    vi.useFakeTimers({ toFake: ['Date'], now: notAfter.getTime() + 1000 });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    expect(socket.authorized).toBe(true);
    expect(refused(judgeClient(socket, 'require'))).toMatchObject({ result: 'expired' });
  });
});
