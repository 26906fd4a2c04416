import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { Authority, type IssueOptions } from '../support/authority.js';
import { startGrpcBackend } from '../support/backends.js';
import { checkSteps, runCheck } from '../support/check-command.js';
import { BACKCHANNEL_PREFACE, tlsClient } from '../support/clients.js';
import { ALLOWED, presenting, requiring, startGate } from '../support/gate.js';
import { GrpcClient } from '../support/grpc-client.js';
import { CLI, ProxyProcess } from '../support/proxy-process.js';
import { startSetup, TLS_LISTENER } from '../support/setup.js';
import { isInstalled, shell } from '../support/shell.js';
import { StandInGitaly } from '../support/stand-in-gitaly.js';
import { temporaryDirectory } from '../support/temporary-directory.js';
import { explicitCurvePair } from '../tls/odd-certificates.js';

const INTERNAL_ERRORS = 'gitaly_tls_proxy_internal_errors_total';
const PLAIN_LISTENER = 'tcp://127.0.0.1:0';

/** A text that a terminal would interpret, and that would begin lines of its own. */
const HOSTILE = 'a\u001b[31m\u009b0m\u0085\u2028\u202eForged: passed\nnext';

function inspect(args: string): Promise<{ exitCode: number | null; output: string }> {
  return shell(`'${process.execPath}' '${CLI}' certificates inspect ${args}`);
}

/** Nothing but text and the line breaks of the report. */
function expectPrintable(output: string): void {
  expect(output).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
}

test('a server certificate without a subject is served, checked, inspected and verified by its SAN', async () => {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const { certificatePath, keyPath, certificatePem } = await ca.server({ subject: [] });
  // The leaf stands in the file twice: it is named in the warning.
  await writeFile(certificatePath, certificatePem + certificatePem);
  const behind = await ProxyProcess.start({
    configuration: {
      tls: { certificate_path: certificatePath, key_path: keyPath },
      listeners: [{ listen: TLS_LISTENER, forward: await startGrpcBackend() }],
    },
  });
  const { host } = await behind.address(TLS_LISTENER);
  const trusting = async (caPath: string): Promise<ProxyProcess> =>
    ProxyProcess.start({
      configuration: {
        listeners: [{ listen: PLAIN_LISTENER, forward: `tls://${host}`, upstream_tls: { ca_path: caPath } }],
      },
    });
  const { exitCode, step } = await checkSteps([`tls://${host}`, '--ca', ca.caPath]);
  expect(exitCode).toBe(0);
  expect(step('chain')).toMatchObject({ sent: [{ subject: 'localhost, 127.0.0.1, ::1' }, {}] });
  expect((await inspect(`'${certificatePath}' 'tls://${host}'`)).output).toMatch(/subject {6}none/u);

  const good = await trusting(ca.caPath);
  const client = new GrpcClient(await good.address(PLAIN_LISTENER));
  await client.health();
  client.close();
  await good.log.waitForClose('finished');
  await good.endsWithNothingLeaked();

  const other = await trusting((await Authority.create(directory, 'other')).caPath);
  const refused = new GrpcClient(await other.address(PLAIN_LISTENER));
  await expect(refused.health()).rejects.toMatchObject({
    details: expect.stringContaining(
      'the certificate of localhost, 127.0.0.1, ::1 is signed by an unknown authority',
    ) as string,
  });
  refused.close();
  expect((await other.scrape()).value(INTERNAL_ERRORS)).toBe(0);
  await other.endsWithNothingLeaked();
});

test('client certificates without a subject: the good are admitted by their SAN, strangers refused, and neither is a fault', async () => {
  const setup = await startSetup((ca) => ({ tls: { client_auth: 'require', client_ca_path: ca.caPath } }));
  const good = await setup.ca.client({ subject: [], dns: ['rails.test'] });
  const stranger = await (
    await Authority.create(await temporaryDirectory(), 'other')
  ).client({ subject: [], dns: [] });
  const refused = tlsClient(setup.port, { ca: setup.ca.caPem, ...presenting(stranger) });
  const line = await setup.proxy.log.waitForClose('client_certificate_refused');
  expect(line['close.detail']).toMatch(
    /^client certificate a certificate without a name, issued by CN=other: /,
  );
  (await refused.catch(() => undefined))?.destroy();
  const admitted = await tlsClient(setup.port, { ca: setup.ca.caPem, ...presenting(good) });
  admitted.write(BACKCHANNEL_PREFACE);
  const upstream = await setup.backend.accept();
  admitted.resume().end();
  await upstream.ended;
  upstream.socket.end();
  const left = await setup.proxy.log.waitFor((each) => each['peer.identity'] !== undefined);
  expect(left['peer.identity']).toBe('rails.test');
  expect((await setup.proxy.scrape()).value(INTERNAL_ERRORS)).toBe(0);
  await setup.proxy.endsWithNothingLeaked();
});

test('client_certificate_headers: names go upstream exactly, and what cannot be printed is not an identity', async () => {
  const gate = await startGate((ca) => ({
    ...requiring(ca),
    listener: { client_certificate_headers: true },
  }));
  const headersOf = async (options: IssueOptions): Promise<Readonly<Record<string, unknown>>> => {
    const client = await gate.ca.client({ dns: [], ...options });
    expect(await gate.ask(ALLOWED, presenting(client))).toMatchObject({ status: 200 });
    return gate.backend.last.headers;
  };
  const of = (value: string): IssueOptions => ({ subject: [{ CN: [{ utf8String: value }] }] });
  expect(await headersOf(of('admin '))).toMatchObject({
    'x-ssl-client-identity': 'admin%20',
    'x-ssl-client-s-dn': 'CN=admin\\%20',
  });
  expect(await headersOf(of('x\\nCN=admin, O=y'))).toMatchObject({
    'x-ssl-client-identity': 'x\\nCN=admin, O=y',
    'x-ssl-client-s-dn': 'CN=x\\\\nCN=admin\\, O=y',
  });
  for (const separator of ['\n', '\u0085', '\u2028', '\u2029', '\u202e']) {
    for (const subject of [
      of(`x${separator}CN=admin`).subject ?? [],
      [{ O: [{ utf8String: `x${separator}CN=admin` }] }],
    ]) {
      const headers = await headersOf({ subject });
      expect(headers).not.toHaveProperty('x-ssl-client-identity');
      expect(headers).toMatchObject({
        'x-ssl-client-verify': 'SUCCESS',
        'x-ssl-client-s-dn': expect.stringMatching(/^(CN|O)=x(\\[0-9A-F]{2})+CN=admin$/) as string,
      });
    }
  }
  await gate.endsWithNothingLeaked();
});

test('inspect and check print nothing of a certificate, a server or a file name that a terminal interprets', async () => {
  const directory = await temporaryDirectory();
  const ca = await Authority.create(directory);
  const issued = await ca.server({
    subject: [{ CN: [{ utf8String: HOSTILE }] }],
    dns: ['localhost', 'x\u001b[0m\n'],
  });
  const gitaly = await StandInGitaly.start({ tls: { cert: issued.certificatePem, key: issued.keyPem } });
  const path = join(directory, `${HOSTILE.replaceAll('/', '')}.pem`);
  await writeFile(path, issued.certificatePem);
  for (const json of ['', '--json']) {
    const inspected = await inspect(`${json} '${path}' '${directory}/missing${HOSTILE}' ${gitaly.url}`);
    expectPrintable(inspected.output);
    expect(inspected.output).toContain('Forged');
    const checked = await runCheck([gitaly.url, '--ca', ca.caPath, ...(json === '' ? [] : [json])]);
    expectPrintable(checked.output);
    expect(checked.output).toContain('Forged');
  }
  expectPrintable((await runCheck([gitaly.url, '--ca', `${directory}/missing${HOSTILE}`])).output);
});

test.runIf(isInstalled('openssl'))(
  'a key on a curve without a name, which Go cannot read, is not served',
  async () => {
    const { certificatePath, keyPath } = await explicitCurvePair(await temporaryDirectory());
    const proxy = await ProxyProcess.spawn({
      configuration: {
        tls: { certificate_path: certificatePath, key_path: keyPath },
        listeners: [{ listen: TLS_LISTENER, forward: 'tcp://127.0.0.1:9' }],
      },
    });
    expect(await proxy.exited).toBe(2);
    expect(proxy.stderr.text).toContain(
      'describes its elliptic curve by explicit parameters, which Go cannot parse',
    );
  },
);

test('a chain in the wrong order is not served: the order is the one cause that is reported, with its fix', async () => {
  const directory = await temporaryDirectory();
  const issued = await (await (await Authority.create(directory)).intermediate('issuing')).server();
  const [leaf = '', intermediate = ''] = issued.certificatePem.split(/(?<=-----END CERTIFICATE-----\n)/u);
  await writeFile(issued.certificatePath, intermediate + leaf);
  const { exitCode, output } = await shell(
    `'${process.execPath}' '${CLI}' serve --listen ${TLS_LISTENER} --forward tcp://127.0.0.1:9 ` +
      `--cert '${issued.certificatePath}' --key '${issued.keyPath}'`,
  );
  expect(exitCode).toBe(2);
  expect(output.match(/^gitaly-tls-proxy: /gm)).toHaveLength(1);
  expect(output).toMatch(
    /the chain is in the wrong order: .* belongs to certificate 2 in it, CN=localhost.* put the leaf first/,
  );
});

test.runIf(isInstalled('openssl'))(
  'close.advice names what is wrong with our own certificate before the trust of the client',
  async () => {
    const setup = await startSetup();
    const connect = async (...args: string[]): Promise<unknown> => {
      const address = `-connect 127.0.0.1:${setup.port} -alpn h2 -CAfile '${setup.ca.caPath}' -verify_return_error`;
      expect((await shell(`openssl s_client ${address} ${args.join(' ')} </dev/null`)).exitCode).toBe(1);
      const line = await setup.proxy.log.waitFor(({ server_name: name }) => name === args[1]);
      return line['close.advice'];
    };
    for (const version of ['-tls1_2', '-tls1_3']) {
      expect(
        await connect('-servername', `other${version}.test`, '-verify_hostname other.test', version),
      ).toMatch(
        /^the client requested other-tls1_\d\.test, which is not in the SAN of this listener's certificate; its names are localhost/,
      );
    }
    await setup.proxy.endsWithNothingLeaked();
  },
);
