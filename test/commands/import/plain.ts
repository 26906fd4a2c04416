import type { Setting } from '../../../src/commands/import/setting.js';

/** Stands for what was not read. */
export const UNREAD = { unread: true };

/** Settings as plain values. */
export function plainOf(setting: Setting): unknown {
  switch (setting.kind) {
    case 'scalar':
      return setting.value;
    case 'unread':
      return UNREAD;
    case 'list':
      return setting.items.map(plainOf);
    case 'map':
      return Object.fromEntries([...setting.entries].map(([name, entry]) => [name, plainOf(entry)]));
  }
}
