import { readFileSync } from 'node:fs';
import { SourceMap, type SourceMapPayload } from 'node:module';

/** A position in a built file, as in `file:///opt/gitaly-tls-proxy/dist/chunk-6OFFYEJL.js:12:3`. */
const POSITION = /(file:\/\/[^\s()]+\.js):(\d+):(\d+)/gu;

/** The source map of each file; `undefined` if it has none. */
const sourceMaps = new Map<string, SourceMap | undefined>();

/**
 * The stack of an exception, with positions in the source files in place of those in the built files. Source maps are read
 * when the first exception needs them: Node's `--enable-source-maps` would read all of them at each start.
 */
export function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return (error.stack ?? error.message).replace(
    POSITION,
    (position, url: string, line: string, column: string) =>
      sourcePosition(url, Number(line), Number(column)) ?? position,
  );
}

function sourcePosition(url: string, line: number, column: number): string | undefined {
  if (!sourceMaps.has(url)) sourceMaps.set(url, readSourceMap(url));
  const origin = sourceMaps.get(url)?.findOrigin(line, column);
  if (origin === undefined || !('fileName' in origin)) return undefined;
  return `${origin.fileName.replace(/^(?:\.\.\/)+/u, '')}:${origin.lineNumber}:${origin.columnNumber}`;
}

function readSourceMap(url: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(new URL(`${url}.map`), 'utf8')) as SourceMapPayload);
  } catch {
    return undefined;
  }
}
