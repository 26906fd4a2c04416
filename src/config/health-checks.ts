import { fileSetting, reportError, type BuildContext } from './build-context.js';
import { DEFAULTS } from './defaults.js';
import type { HealthChecks } from './model.js';
import type { Draft } from './schema.js';

/** Builds the settings of health checks. Reports settings that have no effect without health checks. */
export function buildHealthChecks(draft: Draft, context: BuildContext): HealthChecks | undefined {
  const {
    health_check_interval: intervalMs,
    health_check_token_path: token,
    readiness_requires_upstream: requires = DEFAULTS.readinessRequiresUpstream,
  } = draft;
  if (intervalMs === undefined) {
    const needs = 'needs health checks: set `health_check_interval`, for example to "15s"';
    if (context.isBroken(['health_check_interval'])) return undefined;
    if (token !== undefined) reportError(context, ['health_check_token_path'], needs, token);
    if (requires) reportError(context, ['readiness_requires_upstream'], needs, requires);
    return undefined;
  }
  return {
    intervalMs,
    token:
      token === undefined
        ? undefined
        : fileSetting(context, { value: token, key: ['health_check_token_path'] }),
    readinessRequiresUpstream: requires,
  };
}
