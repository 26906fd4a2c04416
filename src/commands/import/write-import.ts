import { stringify } from 'yaml';

import { formatHostPort } from '../../config/host-port.js';
import type { FileKind } from './found.js';
import { PROMETHEUS, type ImportPlan, type PlannedListener, type PlannedTls } from './import-plan.js';
import type { Unread } from './setting.js';

const WIDTH = 116;

const FILES: Readonly<Record<FileKind, string>> = {
  'config.toml': 'a config.toml',
  'gitlab.yml': 'a gitlab.yml',
  'gitlab.rb': 'a gitlab.rb',
};

/** The configuration as YAML: the steps, then the settings that need attention, then the configuration itself. */
export function writeConfiguration(
  plans: readonly ImportPlan[],
  { unread, warnings }: { readonly unread: readonly Unread[]; readonly warnings: readonly Unread[] },
  source: { readonly name: string; readonly kind: FileKind },
): string {
  const certificates = plans.flatMap(({ listeners }) => listeners.flatMap(({ tls }) => tls ?? []));
  const [shared] = certificates;
  const isShared = certificates.every((tls) => JSON.stringify(tls) === JSON.stringify(shared));
  const server = plans.find((plan) => plan.server !== undefined)?.server;
  const logging = {
    ...(server?.loggingLevel === undefined ? {} : { level: server.loggingLevel }),
    ...(server?.loggingFormat === undefined ? {} : { format: server.loggingFormat }),
  };
  return [
    ...header(source),
    ...(plans.length > 1 ? severalComponents() : []),
    ...steps(plans),
    ...list('Not imported. Check whether the proxy needs any of these:', unread),
    ...list('Imported, but check these:', warnings),
    '',
    ...(shared === undefined || !isShared ? [] : ['tls:', ...tlsLines(shared, '  ')]),
    `prometheus_listen_addr: ${yaml(formatHostPort(server?.prometheus ?? PROMETHEUS))}`,
    ...(server?.gracefulRestartTimeout === undefined
      ? []
      : [`graceful_restart_timeout: ${yaml(server.gracefulRestartTimeout)}`]),
    ...(Object.keys(logging).length === 0
      ? []
      : ['logging:', ...Object.entries(logging).map(([key, value]) => `  ${key}: ${yaml(value)}`)]),
    'listeners:',
    ...plans.flatMap((plan) => [
      ...(plans.length > 1 ? comment(plan.heading, '  # ') : []),
      ...plan.listeners.flatMap((listener) => listenerLines(listener, isShared)),
    ]),
    '',
  ].join('\n');
}

function header({ name, kind }: { readonly name: string; readonly kind: FileKind }): string[] {
  return [
    ...comment(`Configuration of gitaly-tls-proxy, imported from ${name} (${FILES[kind]}).`),
    '#',
    ...comment(
      'This is the configuration after the migration. Do the steps in this order, each on all of its nodes before you begin the ' +
        'next: then no clone fails. HOST stands for the name of the node in the addresses of its clients.',
    ),
  ];
}

function severalComponents(): string[] {
  return [
    '#',
    ...comment(
      'The file configures several components. If they run on different nodes, import them separately, with --only gitaly, ' +
        '--only praefect and --only clients.',
    ),
  ];
}

/** The steps of all plans, numbered consecutively. */
function steps(plans: readonly ImportPlan[]): string[] {
  let number = 0;
  return plans.flatMap(({ heading, steps: own }) => [
    '#',
    ...comment(`${heading}.`),
    ...own.flatMap(({ text, lines = [] }) => {
      number += 1;
      const title = `${number}.`.padEnd(4);
      const [first = '', ...more] = comment(text, '#     ');
      return [
        `# ${title}${first.slice('#     '.length)}`,
        ...more,
        ...lines.map((line) => `#         ${visible(line)}`),
      ];
    }),
  ]);
}

function list(title: string, settings: readonly Unread[]): string[] {
  if (settings.length === 0) return [];
  return [
    '#',
    ...comment(title),
    ...settings.flatMap(({ key, line, reason }) => {
      const place = line === undefined ? '' : `line ${line}: `;
      const [first = '', ...more] = comment(`${place}${key}: ${reason}`, '#   ');
      return [`# - ${first.slice('#   '.length)}`, ...more];
    }),
  ];
}

function listenerLines(
  { comments, listen, forward, tls, commentedOut }: PlannedListener,
  isShared: boolean,
): string[] {
  return [
    ...comments.flatMap((text) => comment(text, '  # ')),
    `  - listen: ${yaml(listen)}`,
    `    forward: ${yaml(forward)}`,
    ...(tls === undefined || isShared ? [] : ['    tls:', ...tlsLines(tls, '      ')]),
    ...commentedOut.map((line) => `    # ${line}`),
  ];
}

function tlsLines({ certificatePath, keyPath, minVersion }: PlannedTls, indent: string): string[] {
  return [
    `${indent}certificate_path: ${yaml(certificatePath)}`,
    `${indent}key_path: ${yaml(keyPath)}`,
    ...(minVersion === undefined ? [] : [`${indent}min_version: ${yaml(minVersion)}`]),
  ];
}

/** A value on one line, quoted if necessary. */
function yaml(value: string): string {
  return stringify(value, { lineWidth: 0, defaultStringType: 'PLAIN', blockQuote: false }).trimEnd();
}

/** Wraps a paragraph into comment lines. */
function comment(text: string, prefix = '# '): string[] {
  const lines: string[] = [];
  for (const word of visible(text).split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > WIDTH) lines.push(`${prefix}${word}`);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** Replaces characters that would end a comment line: names of storages and files can contain any character. */
function visible(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]/gu, '?');
}
