import { createHash } from 'node:crypto';

import { describe, expect, test } from 'vitest';

import { tornHash } from '../../../src/telemetry/audit/chain.js';
import { MadeChain, verify } from './hand-made.js';

/** One file of one process: the opening, five calls, and the closing line. */
function oneFile(): string[] {
  return new MadeChain().opened([]).calls(5).add({ event: 'closed' }).take();
}

/** Three files of a process that reopened its file twice. */
function rotated(): string[][] {
  const chain = new MadeChain();
  return [
    chain.opened([]).calls(3).take(),
    chain.opened([]).calls(3).take(),
    chain.opened([]).calls(3).add({ event: 'closed' }).take(),
  ];
}

test('the hash of a line is the SHA-256 of the hash before it and of its bytes, as documented', () => {
  const [first = '', second = ''] = oneFile();
  const hashOf = (line: string): string => /"hash":"(\w+)"\}\n$/u.exec(line)?.[1] ?? '';
  const content = second.replace(/,"hash":"\w+"\}\n$/u, '');
  expect(
    createHash('sha256')
      .update(hashOf(first) + content)
      .digest('hex'),
  ).toBe(hashOf(second));
});

test('lines as they were written are intact, in one file and in rotated ones', () => {
  expect(verify([oneFile()])).toBe('intact');
  expect(verify(rotated())).toBe('intact');
  expect(verify([[]])).toBe('intact');
});

test('the last of several rotated files is intact without the others', () => {
  const [, second = [], third = []] = rotated();
  expect(verify([second, third])).toBe('intact');
  expect(verify([third])).toBe('intact');
});

describe('one change to any line is found at that line', () => {
  const lines = oneFile();
  test.each(lines.map((_, index) => index))('line %i', (index) => {
    const line = lines[index] ?? '';
    for (let at = 0; at < line.length - 1; at++) {
      const changed = `${line.slice(0, at)}${line[at] === '7' ? '8' : '7'}${line.slice(at + 1)}`;
      const [place] = verify([lines.with(index, changed)]).split(': ');
      // A line whose number in the chain was changed looks like one before which others are missing.
      expect(place, changed).toBe(`file1:${index + 1}`);
    }
  });
});

test('a line that is not JSON, or empty, is found at that line', () => {
  const lines = oneFile();
  expect(verify([lines.with(2, 'nothing\n')])).toContain('file1:3: it was changed');
  expect(verify([lines.toSpliced(2, 0, '\n')])).toContain('file1:3: it was changed');
});

test('each removed line is found, wherever it was, except at the end', () => {
  const lines = oneFile();
  for (let index = 0; index < lines.length - 1; index++)
    expect(verify([lines.toSpliced(index, 1)]), `line ${index + 1}`).toMatch(
      new RegExp(`^file1:${index + 1}: .*missing before it`, 'u'),
    );
});

test('a removed beginning is found, also if a later process began its chain in the file', () => {
  const first = new MadeChain().opened([]).calls(3);
  const { hash } = first.head;
  const former = first.take();
  const later = new MadeChain()
    .opened(former, { seen: [hash] })
    .calls(2)
    .take();
  expect(verify([[...former, ...later]])).toBe('intact');
  expect(verify([later])).toMatch(/^file1:1: lines are missing before it/u);
  expect(verify([[...former.slice(0, -1), ...later]])).toMatch(/^file1:4: .*missing before it/u);
  expect(verify([[...former.slice(2), ...later]])).toMatch(/^file1:1: .*missing before it/u);
});

test('a moved and a copied line are found', () => {
  const lines = oneFile();
  const [second = '', third = ''] = lines.slice(1, 3);
  expect(verify([lines.with(1, third).with(2, second)])).toMatch(/^file1:2: .*moved here/u);
  expect(verify([lines.toSpliced(3, 0, second)])).toMatch(/^file1:4: it was moved or copied here/u);
  expect(verify([lines.toSpliced(1, 0, lines[1] ?? '')])).toMatch(/^file1:3: it was moved or copied here/u);
});

test('files in another order, or without one in between, are found', () => {
  const [first = [], second = [], third = []] = rotated();
  expect(verify([second, first, third])).toMatch(/^file2:1: it was moved or copied here/u);
  expect(verify([first, third, second])).toMatch(/^file2:1: 4 lines are missing before it/u);
  expect(verify([first, third])).toMatch(/^file2:1: 4 lines are missing before it/u);
  expect(verify([first.slice(0, -1), second, third])).toMatch(/^file2:1: 1 line is missing before it/u);
});

test('a cut end is found only by a hash that was kept elsewhere, or by a later line', () => {
  const lines = oneFile();
  const last = /"hash":"(\w+)"/u.exec(lines.at(-1) ?? '')?.[1] ?? '';
  expect(verify([lines.slice(0, -1)])).toBe('intact');
  expect(verify([lines], [last])).toBe('intact');
  expect(verify([lines.slice(0, -1)], [last])).toMatch(/^file1:6: lines are missing behind it/u);
});

test('an end that was cut before a new process began another file is found', () => {
  const lines = oneFile();
  const other = new MadeChain().opened([]).calls(1).take();
  expect(verify([lines, other])).toBe('intact');
  expect(verify([lines.slice(0, -1), other])).toMatch(/^file1:6: lines are missing behind it/u);
});

test('lines that were added behind the end of a chain are found', () => {
  const chain = new MadeChain().opened([]).add({ event: 'closed' }).calls(1);
  expect(verify([chain.take()])).toMatch(/^file1:3: it was added/u);
});

describe('two processes that write to one file', () => {
  /** B begins while A writes, and each states the lines of the other. */
  function interleaved(): string[] {
    const [a, b] = [new MadeChain(), new MadeChain()];
    const lines = a.opened([]).calls(2).take();
    lines.push(
      ...b
        .opened(lines, { seen: [a.head.hash] })
        .calls(1)
        .take(),
    );
    lines.push(
      ...a
        .add({ event: 'seen', seen: [b.head.hash] })
        .calls(2)
        .add({ event: 'closed' })
        .take(),
    );
    lines.push(
      ...b
        .add({ event: 'seen', seen: [a.head.hash] })
        .calls(1)
        .add({ event: 'closed' })
        .take(),
    );
    return lines;
  }

  test('are intact', () => {
    expect(verify([interleaved()])).toBe('intact');
  });

  test('hide no removal, of any number of lines that are not the end', () => {
    const lines = interleaved();
    for (let from = 0; from < lines.length - 1; from++)
      for (let count = 1; from + count < lines.length; count++)
        expect(verify([lines.toSpliced(from, count)]), `${count} from line ${from + 1}`).not.toBe('intact');
  });

  test('hide no removal of all lines of one of them', () => {
    const lines = interleaved();
    const chainOf = (line: string): string => line.slice(0, 30);
    const first = chainOf(lines[0] ?? '');
    expect(verify([lines.filter((line) => chainOf(line) === first)])).not.toBe('intact');
    expect(verify([lines.filter((line) => chainOf(line) !== first)])).not.toBe('intact');
  });
});

describe('a line that a full disk or a kill has cut off', () => {
  const torn = '{"chain":"00112233';

  test('is intact if the next opening states it, in the same file or in the next', () => {
    const former = new MadeChain().opened([]).calls(2);
    const { hash } = former.head;
    const file = [...former.take(), `${torn}\n`];
    const members = { seen: [hash], torn: [tornHash(Buffer.from(torn))] };
    const next = new MadeChain().opened(file, members).calls(1).take();
    expect(verify([[...file, ...next]])).toBe('intact');
    const chain = new MadeChain();
    const first = [...chain.opened([]).calls(2).take(), torn];
    const second = chain.opened([], { torn: [tornHash(Buffer.from(torn))] }).take();
    expect(verify([first, second])).toBe('intact');
  });

  test('is a fault if no opening states it', () => {
    const file = [...new MadeChain().opened([]).calls(2).take(), `${torn}\n`];
    const next = new MadeChain().opened(file).calls(1).take();
    expect(verify([[...file, ...next]])).toMatch(/^file1:4: it was changed/u);
    expect(verify([[...file.slice(0, -1), torn], next])).toMatch(/^file1:4: it was changed/u);
  });

  test('may be the end of the last file, to which a process still writes', () => {
    expect(verify([[...new MadeChain().opened([]).calls(2).take(), torn]])).toBe('intact');
  });
});
