import { readConfiguration } from '../config/load.js';
import type { ServeSource } from '../config/serve-source.js';
import { DescriptorBudget } from '../process/descriptor-budget.js';
import { handleSignals } from '../process/signals.js';
import { Proxy, ProxyFailure } from '../proxy.js';
import { Reloader } from '../reloader.js';
import { openLogSink } from '../telemetry/log-sink.js';
import { createLogger, type Logger } from '../telemetry/logger.js';
import { Metrics } from '../telemetry/metrics.js';
import { readVersion } from '../version.js';

const STDOUT = 1;

/** Runs the proxy until it is told to stop. Returns the exit code: 0, 1 (cut or failed), 2 (configuration). */
export async function serve(source: ServeSource): Promise<number> {
  const logger = createLogger(openLogSink(STDOUT), { level: 'info', format: 'json' });
  const metrics = new Metrics(readVersion());
  outliveFaults(logger, metrics);

  const reloadWanted = { early: false, now: (): void => void (reloadWanted.early = true) };
  const stopWanted = signalled();
  handleSignals({
    onReload: () => reloadWanted.now(),
    onDrain: () => stopWanted.drain(),
    onStop: () => stopWanted.stop(),
  });

  let proxy: Proxy;
  try {
    const load = (): ReturnType<typeof readConfiguration> => readConfiguration(source, process.env);
    proxy = await Proxy.start({ load, logger, metrics, budget: DescriptorBudget.ofProcess() });
  } catch (error) {
    if (!(error instanceof ProxyFailure)) throw error;
    await logger.sink.flush();
    for (const line of error.lines) process.stderr.write(`gitaly-tls-proxy: ${line}\n`);
    return error.kind === 'configuration' ? 2 : 1;
  }

  const reloader = new Reloader(proxy, logger, metrics);
  await reloader.start();
  reloadWanted.now = () => void reloader.reloadNow();
  if (reloadWanted.early) reloadWanted.now();

  await stopWanted.draining;
  reloader.stop();
  let cut = 0;
  void stopWanted.stopping.then(() => (cut += proxy.cutAll('a second signal came')));
  const overdue = await proxy.drain();
  cut += overdue;
  if (cut > 0) logger.warn({ cut }, 'stopped: some connections had to be cut');
  else logger.info({}, 'stopped: all connections ended by themselves');
  proxy.closeAdmin();
  await logger.sink.flush();
  return cut > 0 ? 1 : 0;
}

/** Promises for the first and the second signal to end. */
function signalled(): {
  draining: Promise<void>;
  stopping: Promise<void>;
  drain: () => void;
  stop: () => void;
} {
  let drain = (): void => undefined;
  let stop = (): void => undefined;
  const draining = new Promise<void>((resolve) => (drain = resolve));
  const stopping = new Promise<void>((resolve) => (stop = resolve));
  return { draining, stopping, drain: () => drain(), stop: () => stop() };
}

/**
 * An exception that no connection's own guard has caught must not end the others' connections. It is logged and
 * counted: an operator can see that there is a fault to report.
 */
function outliveFaults(logger: Logger, metrics: Metrics): void {
  const note = (error: unknown): void => {
    metrics.internalErrors.inc({ scope: 'process' });
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    logger.error({ error: text }, 'fault of the proxy outside of any connection; please report it');
  };
  process.on('uncaughtException', note);
  process.on('unhandledRejection', note);
}
