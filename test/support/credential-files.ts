import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Issued } from './authority.js';

/** A certificate and a key under the paths that a configuration names, as a renewal finds and replaces them. */
export class CredentialFiles {
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
    this.certificatePath = join(directory, 'tls.crt');
    this.keyPath = join(directory, 'tls.key');
  }

  /** Writes a pair into a directory for the first time. */
  static async create(directory: string, pair: Issued): Promise<CredentialFiles> {
    const files = new CredentialFiles(directory);
    await files.renew(pair);
    return files;
  }

  /** As certbot and most others do: each file is complete whenever it is read, and for a moment the two do not match. */
  async renew(pair: Issued): Promise<void> {
    await this.replace(this.keyPath, pair.keyPem);
    await this.replace(this.certificatePath, pair.certificatePem);
  }

  /** Replaces one file by rename. */
  async replace(path: string, content: string): Promise<void> {
    const fresh = join(this.#directory, 'fresh');
    await writeFile(fresh, content, { mode: 0o600 });
    await rename(fresh, path);
  }
}
