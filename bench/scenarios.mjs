/** One GiB. */
const GIB = 1024 ** 3;

/**
 * One kind of load and the figure that it gives.
 * @typedef {object} Scenario
 * @property {string} id for `--scenario`
 * @property {string} title the column in the report
 * @property {string} unit
 * @property {'cpu' | 'memory'} measures
 * @property {string} kind what the load client calls it
 * @property {number} connections
 * @property {number} concurrency
 * @property {(result: LoadResult) => number} work how many units the CPU or memory is divided by
 * @property {number} scale from seconds of CPU, or KiB, to the unit
 * @property {(result: LoadResult) => string} rate describes throughput and latency
 * @property {number} [messageBytes] size of a unary call's message, and of its answer
 * @property {number} [maxOperations]
 * @property {boolean} [needsBackchannel] cannot pass a proxy that terminates HTTP/2
 */

/**
 * The counters of the load client. `p50_us` and `p99_us` are of one operation.
 * @typedef {{ operations: number, bytes: number, seconds: number, p50_us: number, p99_us: number }} LoadResult
 */

/** @param {LoadResult} result */
const operations = (result) => result.operations;
/** @param {LoadResult} result */
const gibibytes = (result) => result.bytes / GIB;
/** @param {LoadResult} result */
const transferRate = (result) => `${Math.round(result.bytes / 1024 ** 2 / result.seconds)} MiB/s`;
/** @param {LoadResult} result */
const callRate = (result) =>
  `${Math.round(result.operations / result.seconds)}/s, p50 ${Math.round(result.p50_us)} µs, p99 ${Math.round(result.p99_us)} µs`;

/** @type {Omit<Scenario, 'id' | 'title' | 'kind'>} */
const call = {
  unit: 'µs',
  measures: 'cpu',
  scale: 1e6,
  connections: 1,
  concurrency: 1,
  work: operations,
  rate: callRate,
};
/** @type {Omit<Scenario, 'id' | 'title' | 'kind'>} */
const transfer = {
  ...{ unit: 's/GiB', measures: 'cpu', scale: 1, connections: 2, concurrency: 1 },
  ...{ work: gibibytes, rate: transferRate },
};

/**
 * All scenarios. `--quick` opens fewer idle connections.
 * @param {boolean} quick
 * @returns {Scenario[]}
 */
export function scenarios(quick) {
  return [
    { ...call, id: 'rpc', title: 'RPC 4 × 16', kind: 'rpc', connections: 4, concurrency: 16 },
    // Typical of Gitaly: three in four calls are small, the others are streams of a few messages in either direction.
    { ...call, id: 'mixed', title: 'mixed 4 × 16', kind: 'mixed', connections: 4, concurrency: 16 },
    { ...call, id: 'rpc1', title: 'RPC 1 × 1', kind: 'rpc' },
    { ...transfer, id: 'down', title: 'down', kind: 'down' },
    { ...transfer, id: 'up', title: 'up', kind: 'up' },
    { ...transfer, id: 'duplex', title: 'both ways', kind: 'duplex' },
    { ...transfer, id: 'sidechannel', title: 'sidechannel', kind: 'sidechannel', needsBackchannel: true },
    {
      ...{ id: 'handshake', title: 'handshake', kind: 'handshake', unit: 'ms', measures: 'cpu', scale: 1000 },
      ...{ connections: 1, concurrency: 4, work: operations, rate: callRate },
      // Each leaves two ports in TIME_WAIT for a minute.
      maxOperations: 4000,
    },
    {
      // The handshake, the preface, SETTINGS both ways through a connection to the backend, and the end of both.
      ...{
        id: 'connection',
        title: 'connection',
        kind: 'connection',
        unit: 'ms',
        measures: 'cpu',
        scale: 1000,
      },
      ...{ connections: 1, concurrency: 4, work: operations, rate: callRate },
      maxOperations: 4000,
    },
    {
      ...{ id: 'idle', title: 'idle connection', kind: 'idle', unit: 'KiB', measures: 'memory', scale: 1 },
      ...{ connections: quick ? 300 : 2000, concurrency: 8, work: operations },
      rate: (result) => `${result.operations} open`,
    },
  ];
}
