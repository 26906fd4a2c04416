/** A request as RFC 9112 has it and in one way only, and what came behind it. */
export interface StrictRequest {
  readonly target: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly trailers: readonly (readonly [name: string, value: string])[];
  readonly rest: string;
}

const REQUEST_LINE = /^[A-Z-]+ ([!-~]+) HTTP\/1\.1$/u;
const FIELD = /^([!#$%&'*+.^_`|~\dA-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)$/u;

/**
 * Takes a request off the beginning of what was received (a character a byte), or `undefined` if it is not whole yet.
 * @throws if anything in it could be read in a second way
 */
export function takeRequest(received: string): StrictRequest | undefined {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [line = '', ...lines] = received.slice(0, end).split('\r\n');
  const [, target] = REQUEST_LINE.exec(line) ?? [];
  if (target === undefined) throw new Error(`no request line: ${JSON.stringify(received.slice(0, 200))}`);
  const fields = lines.map(field);
  const once = (wanted: string): string | undefined => {
    const values = fields.flatMap(([name, value]) => (name === wanted ? [value] : []));
    if (values.length > 1) throw new Error(`${wanted} stands there ${values.length} times`);
    return values[0];
  };
  if (once('host') === undefined) throw new Error('the request has no host');
  const [length, coding] = [once('content-length'), once('transfer-encoding')];
  if (length !== undefined && coding !== undefined) throw new Error('there are both lengths');
  if (length !== undefined && !/^\d+$/u.test(length)) throw new Error(`no length: ${length}`);
  if (coding !== undefined && coding !== 'chunked') throw new Error(`no coding that is known: ${coding}`);
  const content = received.slice(end + 4);
  if (coding !== undefined) {
    const taken = takeChunks(content);
    return taken && { target, fields, ...taken };
  }
  if (content.length < Number(length ?? 0)) return undefined;
  return { target, fields, trailers: [], rest: content.slice(Number(length ?? 0)) };
}

function takeChunks(content: string): Pick<StrictRequest, 'trailers' | 'rest'> | undefined {
  for (let at = 0; ;) {
    const end = content.indexOf('\r\n', at);
    if (end < 0) return undefined;
    const size = content.slice(at, end);
    if (!/^[\da-f]+$/iu.test(size)) throw new Error(`no size of a chunk: ${JSON.stringify(size)}`);
    at = end + 2;
    if (/^0+$/u.test(size)) return takeTrailers(content.slice(at));
    at += Number.parseInt(size, 16);
    if (content.length < at + 2) return undefined;
    if (content.slice(at, at + 2) !== '\r\n') throw new Error('a chunk does not end at its stated length');
    at += 2;
  }
}

function takeTrailers(text: string): Pick<StrictRequest, 'trailers' | 'rest'> | undefined {
  if (text.startsWith('\r\n')) return { trailers: [], rest: text.slice(2) };
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  return { trailers: text.slice(0, end).split('\r\n').map(field), rest: text.slice(end + 4) };
}

function field(line: string): readonly [name: string, value: string] {
  const [, name, value] = FIELD.exec(line) ?? [];
  if (name === undefined || value === undefined) throw new Error(`no field: ${JSON.stringify(line)}`);
  return [name.toLowerCase(), value];
}
