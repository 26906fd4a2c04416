import { stackOf } from '../../stack.js';
import type { Logger } from '../../telemetry/logger.js';
import type { Metrics } from '../../telemetry/metrics.js';

/**
 * An exception that no connection's own guard has caught must not end the others' connections. It is logged and
 * counted: an operator can see that there is a fault to report.
 */
export function outliveFaults(logger: Logger, metrics: Metrics): void {
  const note = (error: unknown): void => {
    metrics.internalErrors.inc({ scope: 'process' });
    logger.log('internal_error', { error: stackOf(error) });
  };
  process.on('uncaughtException', note);
  process.on('unhandledRejection', note);
}
