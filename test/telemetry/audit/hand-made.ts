import { appendLine, newChain, type ChainHead } from '../../../src/telemetry/audit/chain.js';
import { ChainVerifier, type ChainFault } from '../../../src/telemetry/audit/verify-chains.js';

/** The lines of an audit log as a process writes them, without a file. */
export class MadeChain {
  head: ChainHead = newChain();
  lines: string[] = [];

  /** Writes a line; `opened` states the place in `file`, the lines that it has already. */
  opened(file: readonly string[], members: object = {}): this {
    const at = Buffer.byteLength(file.join(''));
    return this.add({ event: 'opened', at, previous: this.head.hash, seen: [], torn: [], ...members });
  }

  calls(count: number): this {
    for (let index = 0; index < count; index++) this.add({ event: 'call', 'grpc.method': `Méthode${index}` });
    return this;
  }

  add(body: object): this {
    const [line, head] = appendLine(this.head, JSON.stringify(body));
    this.head = head;
    this.lines.push(line);
    return this;
  }

  /** Returns the lines, and begins to collect those of the next file. */
  take(): string[] {
    return this.lines.splice(0);
  }
}

/** Verifies files, given as lists of lines with their line ends. Returns the place and the problem of the first fault. */
export function verify(files: readonly (readonly string[])[], hashes: readonly string[] = []): string {
  const verifier = new ChainVerifier(hashes);
  const described = ({ file, line, problem }: ChainFault): string => `${file}:${line}: ${problem}`;
  for (const [index, lines] of files.entries()) {
    verifier.beginFile(`file${index + 1}`);
    for (const line of lines) {
      const fault = verifier.line(Buffer.from(line.replace(/\n$/u, '')), line.endsWith('\n'));
      if (fault) return described(fault);
    }
  }
  const fault = verifier.end();
  return fault ? described(fault) : 'intact';
}
