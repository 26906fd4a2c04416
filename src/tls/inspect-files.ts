import type { Configuration, Problem } from '../config/model.js';
import { loadMaterial } from './material.js';
import { loadToken } from './token-file.js';

/** Every problem of the certificate files that a configuration names; the same check that `serve` makes. */
export async function inspectTlsFiles(configuration: Configuration, now: Date): Promise<Problem[]> {
  const problems = [...(await loadMaterial(configuration, now)).problems];
  if (configuration.healthChecks?.token) await loadToken(configuration.healthChecks.token, problems);
  return problems;
}
