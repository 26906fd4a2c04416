import { execFile } from 'node:child_process';
import { appendFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const PAIRS = 4;
const KINDS = /** @type {const} */ (['key', 'cert']);

/**
 * A key pair.
 * @typedef {object} KeyPair
 * @property {string} cert path of the certificate
 * @property {string} key path
 */

/** The certificate of a server that is renewed again and again. */
export class RenewedPair {
  /** The files that the proxy reads. @type {KeyPair} */
  served;
  /** Path of a file with all its certificates, which clients trust. @type {string} */
  ca;
  /** How often it was renewed. */
  renewals = 0;
  /** @type {readonly KeyPair[]} */
  #pairs;

  /**
   * @param {KeyPair} served
   * @param {string} ca
   * @param {readonly KeyPair[]} pairs
   */
  constructor(served, ca, pairs) {
    this.served = served;
    this.ca = ca;
    this.#pairs = pairs;
  }

  /**
   * Makes self-signed key pairs for this machine's loopback, and serves the first.
   * @param {string} load
   * @param {string} directory
   */
  static async create(load, directory) {
    const pairs = [];
    const ca = join(directory, 'ca.pem');
    for (let index = 0; index < PAIRS; index += 1) {
      const out = join(directory, `pair-${index}`);
      await mkdir(out);
      await promisify(execFile)(load, ['certificate', '--out', out]);
      pairs.push({ cert: join(out, 'cert.pem'), key: join(out, 'key.pem') });
      await appendFile(ca, await readFile(join(out, 'cert.pem')));
    }
    const served = { cert: join(directory, 'cert.pem'), key: join(directory, 'key.pem') };
    const renewed = new RenewedPair(served, ca, pairs);
    await renewed.#serve(0);
    return renewed;
  }

  /** Serves the next key pair. */
  async renew() {
    this.renewals += 1;
    await this.#serve(this.renewals);
  }

  /**
   * Replaces key and certificate by rename, as certbot does.
   * @param {number} index
   */
  async #serve(index) {
    const pair = this.#pairs[index % this.#pairs.length];
    if (pair === undefined) throw new RangeError('no such pair');
    for (const which of KINDS)
      await writeFile(`${this.served[which]}.new`, await readFile(pair[which]), { mode: 0o600 });
    for (const which of KINDS) await rename(`${this.served[which]}.new`, this.served[which]);
  }
}
