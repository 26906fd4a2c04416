/** The formats of `/metrics`. */
export type MetricsFormat = 'prometheus' | 'openmetrics';

interface MediaRange {
  readonly type: string;
  readonly version: string | undefined;
  readonly quality: number;
}

/** The versions of OpenMetrics that the output conforms to. */
const OPENMETRICS_VERSIONS: readonly (string | undefined)[] = [undefined, '1.0.0', '0.0.1'];

/**
 * The format that a scraper prefers according to its `Accept` header (RFC 9110 section 12.5.1). OpenMetrics is used only for
 * scrapers that name it. A scraper that accepts neither format gets the text format, which all of them can read.
 */
export function acceptedFormat(accept: string | undefined): MetricsFormat {
  const ranges = (accept ?? '').split(',').map(readRange);
  const openMetrics = ranges.filter(
    ({ type, version }) => type === 'application/openmetrics-text' && OPENMETRICS_VERSIONS.includes(version),
  );
  const best = highest(openMetrics);
  return best > 0 && best >= qualityOfText(ranges) ? 'openmetrics' : 'prometheus';
}

/** The most specific matching range counts. */
function qualityOfText(ranges: readonly MediaRange[]): number {
  for (const type of ['text/plain', 'text/*', '*/*']) {
    const matching = ranges.filter((range) => range.type === type);
    if (matching.length > 0) return highest(matching);
  }
  return 0;
}

function highest(ranges: readonly MediaRange[]): number {
  return Math.max(0, ...ranges.map(({ quality }) => quality));
}

function readRange(text: string): MediaRange {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const valueOf = (name: string): string | undefined =>
    parameters
      .find((parameter) => parameter.startsWith(`${name}=`))
      ?.slice(name.length + 1)
      .replaceAll('"', '');
  const quality = valueOf('q');
  const isQuality = quality === undefined || /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/u.test(quality);
  return { type, version: valueOf('version'), quality: isQuality ? Number(quality ?? 1) : 0 };
}
