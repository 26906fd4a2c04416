import { setImmediate as nextTurn } from 'node:timers/promises';

import { ADMIN_ENTRIES_PER_TURN } from '../limits.js';

/** JSON.stringify(content, undefined, 2) and a line feed, but yields to the event loop between some elements of its arrays. */
export async function writeJson(content: object): Promise<Buffer> {
  const parts: string[] = [];
  for (const [name, value] of Object.entries(content) as [string, unknown][]) {
    const key = `${parts.length === 0 ? '{' : ','}\n  ${JSON.stringify(name)}: `;
    if (Array.isArray(value) && value.length > 0) parts.push(key, await writeArray(value));
    else parts.push(key, JSON.stringify(value, undefined, 2));
  }
  return Buffer.from(`${parts.join('')}\n}\n`);
}

async function writeArray(elements: readonly unknown[]): Promise<string> {
  const written: string[] = [];
  for (const element of elements) {
    written.push(`\n    ${JSON.stringify(element, undefined, 2).replaceAll('\n', '\n    ')}`);
    if (written.length % ADMIN_ENTRIES_PER_TURN === 0) await nextTurn();
  }
  return `[${written.join(',')}\n  ]`;
}
