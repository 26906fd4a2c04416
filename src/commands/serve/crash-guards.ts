import { stackOf } from '../../stack.js';
import type { Logger } from '../../telemetry/logger.js';
import type { Metrics } from '../../telemetry/metrics.js';

/**
 * Keeps the process running after an exception that no connection has caught, so that other connections survive. Logs
 * and counts it, so that operators see that there is a bug to report.
 */
export function installCrashGuards(logger: Logger, metrics: Metrics): void {
  const note = (error: unknown): void => {
    metrics.internalErrors.inc({ scope: 'process' });
    logger.log('internal_error', { error: stackOf(error) });
  };
  process.on('uncaughtException', note);
  process.on('unhandledRejection', note);
}
