import { DIRECT } from './bench.mjs';
import { summarize, summarizeRatios, threeDigits } from './statistics.mjs';

/**
 * @typedef {import('./peers/peer.mjs').Peer} Peer
 * @typedef {import('./scenarios.mjs').Scenario} Scenario
 * @typedef {import('./results.mjs').Results} Results
 */

/** The peers that the targets refer to. */
const REFERENCES = ['haproxy-tcp', 'nginx', 'haproxy-h2', 'envoy-h2', 'ours'];

/**
 * The circumstances that a report lists with its figures.
 * @typedef {object} Circumstances
 * @property {import('./machine.mjs').Machine} machine
 * @property {number} rounds
 * @property {import('./measure.mjs').Pace} pace
 * @property {boolean} quick
 * @property {boolean} direct
 */

/**
 * The report in Markdown.
 * @param {Peer[]} peers
 * @param {Scenario[]} chosen
 * @param {Results} results
 * @param {import('./targets.mjs').Verdict[]} verdicts
 * @param {Circumstances} circumstances
 * @returns {string}
 */
export function renderReport(peers, chosen, results, verdicts, circumstances) {
  const { rounds, quick } = circumstances;
  const sections = [
    '## Cost of the proxy',
    `CPU of the proxy's processes, and their memory for an idle connection: median of ${rounds} ${rounds === 1 ? 'round' : 'rounds'} (smallest to ` +
      `largest).${quick ? ' **Quick run: do not quote the figures.**' : ''}`,
    table(
      ['', ...chosen.map((scenario) => `${scenario.title}, ${scenario.unit}`)],
      peers.map((peer) => [peer.title, ...chosen.map((scenario) => costCell(peer, scenario, results))]),
    ),
    ...REFERENCES.flatMap((id) => ratioSection(id, peers, chosen, results)),
    '## Throughput and latency of the load',
    table(
      ['', ...chosen.map((scenario) => scenario.title)],
      [...(circumstances.direct ? [DIRECT] : []), ...peers].map((peer) => [
        peer.title,
        ...chosen.map((scenario) => rateCell(peer, scenario, results)),
      ]),
    ),
    ...targetSection(verdicts, chosen),
    '## Circumstances',
    renderCircumstances(peers, results, circumstances),
    ...(results.notes.length === 0 ? [] : ['## Notes', results.notes.map((note) => `- ${note}`).join('\n')]),
  ];
  return `${sections.join('\n\n')}\n`;
}

/**
 * @param {Peer} peer
 * @param {Scenario} scenario
 * @param {Results} results
 */
function costCell(peer, scenario, results) {
  const summary = summarize([...results.values(peer.id, scenario.id).values()]);
  return summary === undefined ? missing(peer, scenario, results) : spread(summary);
}

/**
 * @param {string} referenceId
 * @param {Peer[]} peers
 * @param {Scenario[]} chosen
 * @param {Results} results
 * @returns {string[]}
 */
function ratioSection(referenceId, peers, chosen, results) {
  const reference = peers.find((peer) => peer.id === referenceId);
  if (reference === undefined) return [];
  const rows = peers
    .filter((peer) => peer !== reference)
    .map((peer) => [
      peer.title,
      ...chosen.map((scenario) => {
        const ratios = summarizeRatios(
          results.values(peer.id, scenario.id),
          results.values(reference.id, scenario.id),
        );
        return ratios === undefined ? '-' : spread(ratios);
      }),
    ]);
  if (rows.length === 0) return [];
  return [
    `## In multiples of ${reference.title}`,
    'Median of the ratios round by round (smallest to largest).',
    table(['', ...chosen.map((scenario) => scenario.title)], rows),
  ];
}

/**
 * @param {{ id: string, title: string }} peer
 * @param {Scenario} scenario
 * @param {Results} results
 */
function rateCell(peer, scenario, results) {
  const samples = [...results.samples(peer.id, scenario.id)];
  samples.sort((a, b) => a.result.operations / a.result.seconds - b.result.operations / b.result.seconds);
  const middle = samples[Math.floor(samples.length / 2)];
  return middle === undefined ? '-' : scenario.rate(middle.result);
}

/**
 * @param {Peer} peer
 * @param {Scenario} scenario
 * @param {Results} results
 */
function missing(peer, scenario, results) {
  if (results.failed.has(`${peer.id} ${scenario.id}`)) return 'failed';
  return scenario.needsBackchannel === true && !peer.relaysBytes ? '-' : 'dropped';
}

/**
 * @param {import('./targets.mjs').Verdict[]} verdicts
 * @param {Scenario[]} chosen
 * @returns {string[]}
 */
function targetSection(verdicts, chosen) {
  if (verdicts.length === 0) return [];
  const words = {
    met: 'met',
    unclear: 'missed, not by more than the spread',
    missed: '**missed**',
    'not measured': 'not measured',
  };
  const rows = verdicts.map(({ target, peer, measured, verdict, counts }) => {
    const scenario = chosen.find(({ id }) => id === target.scenario);
    const title = scenario?.title ?? target.scenario;
    const unit = limitUnit(target, scenario);
    return [
      title,
      peer.title,
      `≤ ${target.limit}${unit}`,
      measured === undefined ? '-' : spread(measured),
      `${words[verdict]}${counts ? '' : ' (does not count: set for Node 20)'}`,
    ];
  });
  return ['## Targets', table(['', 'row', 'target', 'measured', 'verdict'], rows)];
}

/**
 * @param {import('./targets.mjs').Target} target
 * @param {Scenario | undefined} scenario
 */
function limitUnit({ reference }, scenario) {
  if (scenario?.measures !== 'memory') return ` × ${reference ?? ''}`;
  return reference === undefined ? ' KiB' : ` KiB more than ${reference}`;
}

/**
 * @param {Peer[]} peers
 * @param {Results} results
 * @param {Circumstances} circumstances
 */
function renderCircumstances(peers, results, { machine, rounds, pace }) {
  const versions = [...new Set(peers.map((peer) => peer.version))].join(', ');
  /** @type {Map<string, string[]>} */
  const cryptography = new Map();
  for (const peer of peers) {
    const tls = results.tls.get(peer.id);
    if (tls === undefined) continue;
    const words = `${tls.version}, ${tls.cipher}, ${tls.group}, ${tls.alpn === '' ? 'no ALPN' : `ALPN ${tls.alpn}`}`;
    cryptography.set(words, [...(cryptography.get(words) ?? []), peer.title]);
  }
  return [
    `- Machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, Linux ${machine.kernel}, ${machine.distribution}.`,
    `- Versions: ${versions}; load: Go ${machine.go}, grpc-go and yamux as in bench/load/go.mod.`,
    `- Rounds: ${rounds}; each measurement ${pace.durationMs / 1000} s after ${pace.warmupMs / 1000} s of warm-up, one worker each, P-256 certificate, full handshakes, everything on loopback.`,
    ...[...cryptography].map(([words, titles]) => `- Negotiated ${words}: ${titles.join(', ')}.`),
    `- Measurements repeated because other processes or the hypervisor disturbed them: ${results.repeats}.`,
  ].join('\n');
}

/** @param {import('./statistics.mjs').Summary} summary */
function spread({ median, low, high, samples }) {
  if (samples === 1) return threeDigits(median);
  return `${threeDigits(median)} (${threeDigits(low)}–${threeDigits(high)})`;
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
function table(head, rows) {
  const widths = head.map((_, column) =>
    Math.max(3, ...[head, ...rows].map((row) => row[column]?.length ?? 0)),
  );
  const line = (/** @type {string[]} */ cells) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}
