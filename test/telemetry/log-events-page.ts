import { format, resolveConfig } from 'prettier';

import {
  LOG_EVENTS,
  LOG_FIELDS,
  type EventDefinition,
  type EventVariant,
} from '../../src/telemetry/events.js';

const INTRODUCTION = `# Log events

With this page you know what a log line means, and what to do about it. It is generated from \`src/telemetry/events.ts\` by
\`npm run log-events\`.

Every line has \`level\`, \`time\`, \`event\` and \`msg\`. \`event\` is stable: match it in alerts. \`msg\` is for readers and may change.
In the text format, a line is \`[time] LEVEL: event: msg {fields}\`.

A line at \`warning\` or \`error\` has the fields \`error\` (what happened) or \`close.detail\`, and \`fix\` (what to do). If the
text of \`fix\` below is missing or general, the line has a more specific one. Lines of calls and of HTTP requests have the \`error\` of the
upstream or the client, if there is one.
`;

const LEVEL_WORDS = { debug: 'debug', info: 'info', warn: 'warning', error: 'error' };

/** Renders docs/log-events.md. */
export async function renderLogEvents(path: string): Promise<string> {
  const events = Object.entries<EventDefinition>(LOG_EVENTS).map(([id, definition]) =>
    renderEvent(id, definition),
  );
  const fields = Object.entries(LOG_FIELDS).map(
    ([name, { type, meaning }]) => `- \`${name}\` (${type}): ${meaning}`,
  );
  const page = [INTRODUCTION, '## Events', ...events, '## Fields', fields.join('\n')].join('\n\n');
  return format(page, { ...(await resolveConfig(path)), parser: 'markdown' });
}

function renderEvent(id: string, definition: EventDefinition): string {
  const { message, meaning, fields, optional = [], error, fix, variants } = definition;
  const names = [...fields, ...optional.map((name) => `${name}?`)].map((name) => `\`${name}\``);
  const own = [
    `- Level: ${levelsOf(definition).join(', ')}`,
    `- Text: ${variants && textsDiffer(definition) ? `by \`${variants.field}\`` : message}`,
    `- Fields: ${names.length === 0 ? 'none' : names.join(', ')}`,
    ...(error === undefined ? [] : [`- Error: ${error}`]),
    ...(fix === undefined ? [] : [`- Fix: ${fix}`]),
  ];
  const parts = [`### \`${id}\``, meaning, own.join('\n')];
  if (variants) {
    const each = Object.entries(variants.of).map(([value, variant]) => renderVariant(value, variant));
    parts.push(`By \`${variants.field}\`:`, each.join('\n'));
  }
  return parts.join('\n\n');
}

function renderVariant(value: string, { level, message, error, fix }: EventVariant): string {
  const word = level === undefined ? [] : [LEVEL_WORDS[level]];
  const sentences = [
    ...(message === undefined ? [] : [`${message}.`]),
    ...(error === undefined ? [] : [error]),
    ...(fix === undefined ? [] : [`Fix: ${fix}`]),
  ];
  return `- \`${value}\`: ${[...word, sentences.join(' ')].filter((part) => part !== '').join('; ')}`;
}

function levelsOf({ level, variants }: EventDefinition): string[] {
  const all = new Set(
    variants ? Object.values(variants.of).map((variant) => variant.level ?? level) : [level],
  );
  return (['debug', 'info', 'warn', 'error'] as const)
    .filter((one) => all.has(one))
    .map((one) => LEVEL_WORDS[one]);
}

function textsDiffer({ variants }: EventDefinition): boolean {
  return Object.values(variants?.of ?? {}).some(({ message }) => message !== undefined);
}
