import { deferred } from '../../deferred.js';
import { STOP_MARGIN_MS } from '../../limits.js';
import { isDebuggerWanted } from '../../process/debugger.js';
import { takeEnvironment } from '../../process/environment.js';
import { ProcessBudget } from '../../process/process-budget.js';
import { InheritedSockets } from '../../systemd/inherited-sockets.js';
import { Notifier } from '../../systemd/notify.js';
import { handleSignals } from '../../process/signals.js';
import { outliveFaults } from './outlive-faults.js';
import { AuditLog } from '../../serving/audit-log.js';
import { Proxy, ProxyFailure, type ProxyOptions } from '../../serving/proxy.js';
import { Reloader } from '../../serving/reloader.js';
import { openLogSink } from '../../telemetry/log-sink.js';
import { createLogger } from '../../telemetry/logger.js';
import { Metrics } from '../../telemetry/metrics.js';
import { LocalTraffic } from '../../serving/local-traffic.js';
import type { Traffic } from '../../serving/traffic.js';
import { WorkerTraffic } from '../../serving/workers/worker-traffic.js';
import { readVersion } from '../../version.js';
import type { Configuration, Logging } from '../../config/model.js';
import { DEFAULT_LOGGING } from '../../config/defaults.js';
import { readConfiguration } from '../../config/load.js';
import type { ServeSource } from '../../config/serve-source.js';

const STDOUT = 1;

/** Invalid configuration or usage. */
const EXIT_USAGE = 2;

/** What a command runs the proxy with. */
interface RunOptions {
  readonly load: ProxyOptions['load'];
  /** The file that worker processes run. It finds out itself that it runs in a worker. */
  readonly program: string;
  /** How to log until the configuration says. */
  readonly logging: Logging;
  /** Called once everything is bound. */
  readonly whenReady?: (proxy: Proxy, print: (text: string) => void) => Promise<void>;
}

/**
 * Runs a proxy from its start to the end of its drain, as the signals of the process say.
 * @returns the exit code: 0; 1 if it could not start, or connections had to be cut; 2 for a wrong configuration
 */
export async function runProxy({ load, program, logging, whenReady }: RunOptions): Promise<number> {
  const logger = createLogger(openLogSink(STDOUT), logging);
  const metrics = new Metrics(readVersion());
  outliveFaults(logger, metrics);
  const environment = takeEnvironment(process.env);
  const refused = environment.filter(({ severity }) => severity === 'refuse');
  for (const { error, fix } of refused) process.stderr.write(`gitaly-tls-proxy: ${error} ${fix}\n`);
  if (refused.length > 0) return EXIT_USAGE;
  for (const { variable, error, fix } of environment)
    logger.log('environment_warning', { variable, error, fix });
  if (isDebuggerWanted()) logger.log('debugger_open', {});
  const notifier = Notifier.takeFrom(process.env, logger);
  const sockets = InheritedSockets.takeFrom(process.env);

  // Signals may come before there is a proxy: a reload waits until it has started, an end ends it right then.
  const { promise: started, resolve: start } = deferred<Reloader>();
  const { promise: draining, resolve: drain } = deferred();
  const { promise: stopping, resolve: stop } = deferred();
  handleSignals({
    onReload: () => void started.then((reloader) => notifier.reload(() => reloader.reloadNow())),
    onDrain: drain,
    onStop: stop,
    onIgnored: (signal) => logger.log('signal_ignored', { signal, error: `${signal} is ignored.` }),
  });

  const audit = new AuditLog(logger, metrics);
  const trafficFor = ({ workers }: Configuration): Traffic =>
    workers > 1
      ? new WorkerTraffic(workers, program, metrics, logger, audit.trail, () => new ProcessBudget())
      : new LocalTraffic(metrics, logger, new ProcessBudget(), audit.trail);
  const proxy = await startUnless(draining, { load, logger, metrics, audit, trafficFor, sockets });
  if (!(proxy instanceof Proxy)) {
    if (!proxy) logger.log('stopped_before_ready', {});
    await logger.sink.flush();
    for (const line of proxy?.lines ?? []) process.stderr.write(`gitaly-tls-proxy: ${line}\n`);
    if (!proxy) return 0;
    return proxy.kind === 'configuration' ? EXIT_USAGE : 1;
  }
  const reloader = new Reloader(proxy, logger, metrics);
  reloader.start();
  notifier.start(() => describe(proxy, reloader));
  start(reloader);
  await Promise.race([whenReady?.(proxy, (text) => logger.sink.write(text)), draining]);

  await draining;
  reloader.stop();
  let cut = 0;
  void stopping.then(() => (cut += proxy.cutAll('a second signal came')));
  const drained = proxy.drain();
  notifier.stop(proxy.state.configuration.gracefulRestartTimeoutMs + STOP_MARGIN_MS);
  const overdue = await drained;
  cut += overdue;
  await audit.close();
  if (cut > 0) logger.log('stop_incomplete', { connections: cut });
  else logger.log('stopped', {});
  proxy.closeAdmin();
  await Promise.all([notifier.told, logger.sink.flush()]);
  return cut > 0 ? 1 : 0;
}

/** Starts a proxy, but stops waiting for it once `ended` settles, because a file access may take long. */
async function startUnless(
  ended: Promise<void>,
  options: Omit<ProxyOptions, 'giveUp'>,
): Promise<Proxy | ProxyFailure | undefined> {
  const giveUp = new AbortController();
  const started = Proxy.start({ ...options, giveUp: giveUp.signal }).catch((error: unknown) => {
    if (error instanceof ProxyFailure) return error;
    throw error;
  });
  return (await Promise.race([started, ended.then(() => giveUp.abort())])) ?? undefined;
}

/** How the proxy is, for `systemctl status`. */
function describe(proxy: Proxy, reloader: Reloader): string {
  const { connectionCount, state } = proxy;
  const serving = `${proxy.draining ? 'draining' : 'serving'}: ${state.listeners.length} listeners, ${connectionCount} connections`;
  return reloader.failing ? `${serving}; the last reload failed, the log says why` : serving;
}

/** Runs the proxy until it is told to stop. Returns the exit code. */
export function serve(source: ServeSource, program: string): Promise<number> {
  return runProxy({
    load: () => readConfiguration(source, process.env),
    program,
    logging: DEFAULT_LOGGING,
  });
}
