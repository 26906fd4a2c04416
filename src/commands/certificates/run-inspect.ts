import { inspect } from './inspect/inspect.js';
import type { Place } from './inspect/place.js';
import { asJson } from './inspect/as-json.js';
import { printableJson } from '../../printable.js';
import { asText } from './inspect/as-text.js';

/** What the command has to do with the world. */
export interface InspectIo {
  readonly now: Date;
  readonly writeStdout: (text: string) => void;
}

/**
 * `certificates inspect`: what certificates, keys and servers say, and each thing that is wrong with them.
 * @returns the exit code: 1 if there is an error among the findings
 */
export async function runCertificatesInspect(
  { places, json }: { readonly places: readonly Place[]; readonly json: boolean },
  { now, writeStdout }: InspectIo,
): Promise<number> {
  const inspected = await inspect(places, now);
  writeStdout(json ? `${printableJson(asJson(inspected, now), 2)}\n` : asText(inspected, now));
  return inspected.some(({ findings }) => findings.some(({ severity }) => severity === 'error')) ? 1 : 0;
}
