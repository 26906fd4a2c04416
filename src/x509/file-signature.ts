import type { BigIntStats } from 'node:fs';
import { join } from 'node:path';

import { codeOf } from '../error-codes.js';
import { listDirectory, statPath } from '../files/read-file.js';
import type { Configuration, FileSetting, TrustSource } from '../config/model.js';

/** Every file and directory that a configuration names: certificates, keys, CAs, CRLs, and the token. */
export function watchedPaths(configuration: Configuration): string[] {
  const settings: FileSetting[] = [];
  const addTrust = (trust: TrustSource | undefined): void => {
    settings.push(...(trust?.files ?? []), ...(trust?.directories ?? []));
  };
  for (const { tls, upstreamTls, upstreamToken } of configuration.listeners) {
    for (const pair of tls?.certificates ?? []) settings.push(pair.certificate, pair.key);
    addTrust(tls?.clientCa);
    if (tls?.clientCrl) settings.push(tls.clientCrl);
    if (upstreamToken) settings.push(upstreamToken);
    addTrust(upstreamTls?.ca);
    if (upstreamTls?.certificate)
      settings.push(upstreamTls.certificate.certificate, upstreamTls.certificate.key);
  }
  if (configuration.healthChecks?.token) settings.push(configuration.healthChecks.token);
  return [...new Set(settings.map(({ path }) => path))].sort();
}

/**
 * Returns a string that changes when one of the files changes. It uses `stat`, which follows links: Kubernetes renews a
 * secret by swapping the `..data` link, which watching the file itself would miss.
 */
export async function fileSignature(paths: readonly string[]): Promise<string> {
  const signatures = await Promise.all(paths.map((path) => signatureOf(path)));
  return signatures.flat().join('\n');
}

async function signatureOf(path: string): Promise<string[]> {
  try {
    const facts = await statPath(path);
    const own = factsText(path, facts);
    if (!facts.isDirectory()) return [own];
    const names = (await listDirectory(path)).filter((name) => !name.startsWith('.'));
    const inside = await Promise.all(names.map((name) => signatureOfEntry(join(path, name))));
    return [own, ...inside];
  } catch (error) {
    return [`${path} ${codeOf(error) || 'unreadable'}`];
  }
}

/** Reads one level: a directory of authorities contains files, or links to files. */
async function signatureOfEntry(path: string): Promise<string> {
  try {
    return factsText(path, await statPath(path));
  } catch {
    return `${path} unreadable`;
  }
}

/**
 * Reading a pipe changes its times, and detecting a change of its content would require reading it. So its signature is
 * constant.
 */
function factsText(path: string, facts: BigIntStats): string {
  const identity = [path, facts.dev, facts.ino];
  if (facts.isFIFO()) return [...identity, 'pipe'].join(' ');
  return [...identity, facts.size, facts.mtimeNs, facts.ctimeNs].join(' ');
}
