import { printableJson } from '../../printable.js';
import { EXIT_FAILED, type CommandIo } from '../command-io.js';
import { fetchTraffic, gaps, TrafficUnavailable } from './fetch-traffic.js';
import { suggest, type Suggestion, type SuggestOptions } from './suggest.js';

export interface SuggestRequest extends SuggestOptions {
  readonly from: URL;
  readonly json: boolean;
}

/** `policy suggest`: prints rules that allow the observed calls. */
export async function runSuggest(
  { from, json, ...options }: SuggestRequest,
  { writeStdout, writeStderr }: Pick<CommandIo, 'writeStdout' | 'writeStderr'>,
): Promise<number> {
  try {
    const traffic = await fetchTraffic(from);
    const { listeners, notes } = suggest(traffic, options);
    const suggestion = { listeners, notes: [...gaps(traffic), ...notes] };
    if (json) writeStdout(`${printableJson({ since: traffic.since, ...suggestion }, 2)}\n`);
    else writeStdout(asYaml(suggestion, traffic.since));
    for (const note of suggestion.notes) writeStderr(`gitaly-tls-proxy: warning: ${note}\n`);
    if (listeners.length > 0) return 0;
    writeStderr(
      'gitaly-tls-proxy: no calls were observed that a rule could allow: let clients make calls first\n',
    );
    return EXIT_FAILED;
  } catch (error) {
    if (!(error instanceof TrafficUnavailable)) throw error;
    writeStderr(`gitaly-tls-proxy: ${error.message}\n`);
    return EXIT_FAILED;
  }
}

/** Each string is in double quotes, which YAML and JSON share. */
export function asYaml({ listeners, notes }: Suggestion, since: string): string {
  const lines = [
    `# The rules that allow the calls observed since ${since}. Add each policy to its listener, check the`,
    '# new file with `configuration rehearse`, and set `mode: enforce` when nothing would be refused.',
    ...notes.map((note) => `# Not complete: ${quoted(note).slice(1, -1)}`),
    listeners.length > 0 ? 'listeners:' : 'listeners: []',
  ];
  for (const { listen, rules } of listeners) {
    lines.push(`  - listen: ${quoted(listen)}`, '    policy:', '      mode: report', '      rules:');
    for (const { name, identities, allow, unknown } of rules) {
      lines.push(
        `        - name: ${quoted(name)}`,
        ...list('identities', identities),
        ...list('allow', allow),
      );
      for (const rpc of unknown)
        lines.push(
          `            # - ${quoted(rpc)} is an unknown RPC: add it here and to the file of rpcs_path`,
        );
    }
  }
  return `${lines.join('\n')}\n`;
}

function list(key: string, values: readonly string[]): string[] {
  return values.length === 0
    ? [`          ${key}: []`]
    : [`          ${key}:`, ...values.map((value) => `            - ${quoted(value)}`)];
}

function quoted(text: string): string {
  return printableJson(text);
}
