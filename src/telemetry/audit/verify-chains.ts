import { AUDIT_RECENT_HASHES } from '../../limits.js';
import { isLinked, NO_HASH, readLine, tornHash, type ChainLine } from './chain.js';

/** A place in the audited files. */
export interface LinePlace {
  readonly file: string;
  /** Starts at 1. */
  readonly line: number;
}

/** The first line that is not as it was written, or that lines are missing before or behind. */
export interface ChainFault extends LinePlace {
  readonly problem: string;
}

/** A chain as far as it has been read. */
interface KnownChain {
  sequence: number;
  hash: string;
  place: LinePlace;
  /** Whether its last line states that it ends there. */
  isClosed: boolean;
  /** Whether a line of another chain has referred to its last line. */
  isSeen: boolean;
  /** Its last hashes, the oldest first. */
  readonly recent: Set<string>;
}

/** The members of a line that link it to others. */
interface Links {
  readonly event: string;
  readonly at: number;
  readonly previous: string;
  readonly seen: readonly string[];
  readonly torn: readonly string[];
}

/** The last line of a chain, for the report. */
export interface ChainEnd extends LinePlace {
  readonly chain: string;
  readonly sequence: number;
  readonly hash: string;
  readonly isClosed: boolean;
}

/**
 * Verifies the lines of audit files, in the order in which they were written.
 *
 * The lines of a run of the proxy are a chain. The first line of a chain in a file states the last lines that the file had, by their
 * hashes, and so does a line behind those of another process. So each line but the last is referred to by a later one.
 */
export class ChainVerifier {
  /** Lines that are part of a chain. */
  lines = 0;
  readonly #chains = new Map<string, KnownChain>();
  /** Incomplete lines that no line has explained yet, by their hash. */
  readonly #torn = new Map<string, LinePlace>();
  /** Hashes that must occur. */
  readonly #wanted: Set<string>;
  #file = '';
  #files = 0;
  #line = 0;
  #offset = 0;
  /** Set at the end of a file whose last line has no line end. */
  #cutOff: LinePlace | undefined;

  /** @param wanted - hashes that must occur, for example the last one that the normal log has */
  constructor(wanted: readonly string[] = []) {
    this.#wanted = new Set(wanted);
  }

  beginFile(file: string): void {
    this.#file = file;
    this.#files++;
    this.#line = 0;
    this.#offset = 0;
    this.#cutOff = undefined;
  }

  /** Takes the next line of the file. `isWhole`: whether it has a line end, which `bytes` does not contain. */
  line(bytes: Buffer, isWhole: boolean): ChainFault | undefined {
    this.#line++;
    const offset = this.#offset;
    this.#offset += bytes.length + (isWhole ? 1 : 0);
    const place = this.#place();
    const line = isWhole ? readLine(bytes) : undefined;
    const links = line && linksOf(line);
    if (!line || !links) {
      if (!isWhole) this.#cutOff = place;
      this.#torn.set(tornHash(bytes), place);
      return undefined;
    }
    const problem = this.#check(line, links, offset);
    if (problem === undefined) {
      this.#add(line, links, place);
      return undefined;
    }
    // Nothing explains it any more, and it comes first.
    return this.#firstTorn() ?? { ...place, problem };
  }

  /** The fault that only the end of all files shows. */
  end(): ChainFault | undefined {
    for (const [, place] of this.#torn) if (place !== this.#cutOff) return this.#firstTorn();
    for (const { isClosed, isSeen, place } of this.#chains.values()) {
      if (isClosed || isSeen || place.file === this.#file) continue;
      return {
        ...place,
        problem: 'lines are missing behind it: its chain neither ends here nor continues in a later file',
      };
    }
    const [missing] = this.#wanted;
    if (missing === undefined) return undefined;
    return { ...this.#place(), problem: `lines are missing behind it: no line has the hash ${missing}` };
  }

  /** The last line of each chain. */
  get ends(): ChainEnd[] {
    return [...this.#chains].map(([chain, { sequence, hash, place, isClosed }]) => ({
      chain,
      sequence,
      hash,
      isClosed,
      ...place,
    }));
  }

  #place(): LinePlace {
    return { file: this.#file, line: this.#line };
  }

  #firstTorn(): ChainFault | undefined {
    for (const [, place] of this.#torn)
      return { ...place, problem: 'it was changed: it is not a line of an audit log' };
    return undefined;
  }

  #check(line: ChainLine, links: Links, offset: number): string | undefined {
    const known = this.#chains.get(line.chain);
    const problem = known ? checkNext(known, line) : this.#checkFirst(line, links);
    if (problem !== undefined) return problem;
    if (links.event === 'opened' && links.at > offset)
      return `lines are missing before it: it was written behind ${links.at} bytes, and there are ${offset}`;
    const continues = this.#files === 1 && this.#line === 1 && links.event === 'opened';
    const unseen = continues ? undefined : links.seen.find((hash) => !this.#hasHash(hash));
    return unseen === undefined ? undefined : `a line is missing before it: the one with the hash ${unseen}`;
  }

  /** The first line that is read of a chain. */
  #checkFirst(line: ChainLine, { event, previous }: Links): string | undefined {
    if (event !== 'opened') return 'lines are missing before it: its chain does not begin with it';
    // A file that was rotated begins with a line of a chain that an earlier file has, which need not be given.
    if (line.sequence > 1 && this.#files > 1)
      return `lines are missing before it: the ${line.sequence - 1} before it in its chain`;
    return isLinked(line, line.sequence === 1 ? NO_HASH : previous) ? undefined : 'it was changed';
  }

  #hasHash(hash: string): boolean {
    for (const { recent } of this.#chains.values()) if (recent.has(hash)) return true;
    return false;
  }

  #add({ chain, sequence, hash }: ChainLine, { event, seen, torn }: Links, place: LinePlace): void {
    this.lines++;
    this.#wanted.delete(hash);
    for (const known of this.#chains.values()) if (seen.includes(known.hash)) known.isSeen = true;
    for (const each of torn) this.#torn.delete(each);
    const known = this.#chains.get(chain);
    const recent = known?.recent ?? new Set();
    recent.add(hash);
    if (recent.size > AUDIT_RECENT_HASHES) for (const oldest of recent) if (recent.delete(oldest)) break;
    this.#chains.set(chain, { sequence, hash, place, recent, isClosed: event === 'closed', isSeen: false });
  }
}

/** A further line of a chain. */
function checkNext({ sequence, hash, isClosed }: KnownChain, line: ChainLine): string | undefined {
  if (line.sequence <= sequence)
    return `it was moved or copied here: it is line ${line.sequence} of its chain, behind line ${sequence}`;
  const missing = line.sequence - sequence - 1;
  if (missing > 0)
    return `${missing === 1 ? '1 line is' : `${missing} lines are`} missing before it, or it was moved here: it is line ${line.sequence} of its chain, behind line ${sequence}`;
  if (!isLinked(line, hash)) return 'it was changed';
  return isClosed ? 'it was added: its chain ended before it' : undefined;
}

/** `undefined` if the line is not JSON. */
function linksOf({ bytes }: ChainLine): Links | undefined {
  let members: unknown;
  try {
    members = JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
  if (typeof members !== 'object' || members === null) return undefined;
  const read = (name: string): unknown => Reflect.get(members, name);
  const [event, at, previous] = [read('event'), read('at'), read('previous')];
  return {
    event: typeof event === 'string' ? event : '',
    at: typeof at === 'number' ? at : 0,
    previous: typeof previous === 'string' ? previous : '',
    seen: strings(read('seen')),
    torn: strings(read('torn')),
  };
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
}
