import type { Configuration, Problem } from '../config/model.js';
import { loadMaterial } from './material.js';

/** Every problem of the certificate files that a configuration names; the same check that `serve` makes. */
export async function inspectTlsFiles(configuration: Configuration, now: Date): Promise<Problem[]> {
  return [...(await loadMaterial(configuration, now)).problems];
}
