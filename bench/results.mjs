/**
 * The result of one measurement.
 * @typedef {object} Sample
 * @property {number} round
 * @property {number | undefined} value the figure in the scenario's unit; undefined without a proxy
 * @property {import('./scenarios.mjs').LoadResult} result
 */

/** Everything that a run of the bench found, by peer and scenario. */
export class Results {
  /** @type {Map<string, Sample[]>} */
  #samples = new Map();
  /** @type {Map<string, TlsFacts>} */
  #tls = new Map();
  /** Notes for the reader: measurements that were dropped, scenarios that failed. @type {string[]} */
  notes = [];
  /** Measurements that were repeated because something disturbed them. */
  repeats = 0;
  /** Peers and scenarios that failed, as `peer scenario`. @type {Set<string>} */
  failed = new Set();

  /**
   * @param {string} peer
   * @param {string} scenario
   * @param {Sample} sample
   */
  add(peer, scenario, sample) {
    const key = `${peer} ${scenario}`;
    this.#samples.set(key, [...(this.#samples.get(key) ?? []), sample]);
  }

  /**
   * @param {string} peer
   * @param {string} scenario
   * @returns {readonly Sample[]}
   */
  samples(peer, scenario) {
    return this.#samples.get(`${peer} ${scenario}`) ?? [];
  }

  /**
   * The figures by round.
   * @param {string} peer
   * @param {string} scenario
   * @returns {Map<number, number>}
   */
  values(peer, scenario) {
    /** @type {Map<number, number>} */
    const values = new Map();
    for (const { round, value } of this.samples(peer, scenario)) {
      if (value !== undefined) values.set(round, value);
    }
    return values;
  }

  /**
   * @param {string} peer
   * @param {TlsFacts} facts
   */
  negotiated(peer, facts) {
    this.#tls.set(peer, facts);
  }

  /** @returns {ReadonlyMap<string, TlsFacts>} */
  get tls() {
    return this.#tls;
  }
}

/** @typedef {{ version: string, cipher: string, group: string, alpn: string }} TlsFacts */
