// `node --import hang-files.mjs`: a hanging file system, as NFS can be. While `PATH.hangs` exists, every operation on PATH
// holds a thread until the test writes to the FIFO `HANGING_FIFO`.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

/** @typedef {(path: unknown, ...rest: readonly unknown[]) => unknown} Operation */

const { HANGING_FIFO } = process.env;
if (HANGING_FIFO === undefined) throw new Error('HANGING_FIFO is not set');
const fifo = HANGING_FIFO;
const { open } = fs;
for (const name of ['open', 'stat', 'readdir']) {
  /** @type {unknown} */
  const method = Reflect.get(fs, name);
  const original = /** @type {Operation} */ (method);
  /** @type {Operation} */
  const hanging = (path, ...rest) => {
    if (typeof path !== 'string' || !fs.existsSync(`${path}.hangs`)) return original(path, ...rest);
    process.stderr.write(`${path} hangs\n`);
    open(fifo, 'r', (_error, fd) => {
      fs.close(fd, () => original(path, ...rest));
    });
    return undefined;
  };
  Reflect.set(fs, name, hanging);
}
syncBuiltinESMExports();
