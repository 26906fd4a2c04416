// `node --import hang-files.mjs`: a file system that hangs, as one of NFS does. While `PATH.hangs` exists, whatever is done with
// PATH holds a thread until somebody writes to the FIFO `HANGING_FIFO`.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { HANGING_FIFO } = process.env;
const { open } = fs;
for (const name of ['open', 'stat', 'readdir']) {
  const original = fs[name];
  fs[name] = (path, ...rest) => {
    if (typeof path !== 'string' || !fs.existsSync(`${path}.hangs`)) return original(path, ...rest);
    process.stderr.write(`${path} hangs\n`);
    open(HANGING_FIFO, 'r', (_error, fd) => fs.close(fd, () => original(path, ...rest)));
  };
}
syncBuiltinESMExports();
