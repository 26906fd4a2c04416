import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

import { LOG_EVENTS, type EventDefinition } from '../../src/telemetry/events.js';
import { renderLogEvents } from './log-events-page.js';

const PAGE = fileURLToPath(new URL('../../docs/log-events.md', import.meta.url));

/** Lines in the shape of Gitaly's, whose reason is the call's own status. */
const CALLS: readonly string[] = ['call_finished'];

/** `npm run log-events` writes the page. */
test('docs/log-events.md has every event with its level, fields and fix, as the table has it', async () => {
  await expect(await renderLogEvents(PAGE)).toMatchFileSnapshot(PAGE);
});

describe.each(Object.entries<EventDefinition>(LOG_EVENTS))('%s', (id, definition) => {
  const { level, fields, fix, error, variants } = definition;
  const cases = variants ? Object.values(variants.of) : [{}];

  test('has a lower-case id and a text of at most nine words', () => {
    expect(id).toMatch(/^[a-z]+(_[a-z]+)*$/);
    for (const { message = definition.message } of cases) expect(message.split(' ').length).toBeLessThan(10);
  });

  test.skipIf(CALLS.includes(id))('has a fix at warning and above, in full sentences', () => {
    for (const variant of cases) {
      if (['debug', 'info'].includes(variant.level ?? level)) continue;
      const sentences = [variant.fix ?? fix, variant.error ?? error];
      expect(sentences[0] !== undefined || fields.includes('fix')).toBe(true);
      for (const sentence of sentences) if (sentence !== undefined) expect(sentence).toMatch(/^[A-Z].*\.$/);
    }
  });
});
