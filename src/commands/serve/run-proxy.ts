import { deferred } from '../../deferred.js';
import { STOP_MARGIN_MS } from '../../limits.js';
import { isDebuggerWanted } from '../../process/debugger.js';
import { takeEnvironment } from '../../process/environment.js';
import { ProcessBudget } from '../../process/process-budget.js';
import { InheritedSockets } from '../../systemd/inherited-sockets.js';
import { Notifier } from '../../systemd/notify.js';
import { handleSignals } from '../../process/signals.js';
import { installCrashGuards } from './crash-guards.js';
import { AuditLog } from '../../serving/audit-log.js';
import { ProxyFailure } from '../../serving/proxy-failure.js';
import { Proxy, type ProxyOptions } from '../../serving/proxy.js';
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
import { EXIT_FAILED, EXIT_USAGE } from '../command-io.js';

const STDOUT = 1;

interface RunOptions {
  readonly load: ProxyOptions['load'];
  /** The file that worker processes run. It detects that it runs in a worker. */
  readonly program: string;
  /** In effect until the configuration is read. */
  readonly logging: Logging;
  /** Called once all listeners are bound. */
  readonly whenReady?: (proxy: Proxy, print: (text: string) => void) => Promise<void>;
}

/**
 * Runs the proxy from its start to the end of its drain; signals to the process control it.
 * @returns the exit code: 0; 1 if it could not start, or had to reset connections; 2 for an invalid configuration
 */
export async function runProxy({ load, program, logging, whenReady }: RunOptions): Promise<number> {
  const logger = createLogger(openLogSink(STDOUT), logging);
  const metrics = new Metrics(readVersion());
  installCrashGuards(logger, metrics);
  const environment = takeEnvironment(process.env);
  const refused = environment.filter(({ severity }) => severity === 'refuse');
  for (const { error, fix } of refused) process.stderr.write(`gitaly-tls-proxy: ${error} ${fix}\n`);
  if (refused.length > 0) return EXIT_USAGE;
  for (const { variable, error, fix } of environment)
    logger.log('environment_warning', { variable, error, fix });
  if (isDebuggerWanted()) logger.log('debugger_open', {});
  const notifier = Notifier.takeFrom(process.env, logger);
  const sockets = InheritedSockets.takeFrom(process.env);

  // Signals can arrive before the proxy has started: a reload waits for the start, a stop cancels it.
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
    return proxy.kind === 'configuration' ? EXIT_USAGE : EXIT_FAILED;
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
  const remaining = await drained;
  cut += remaining;
  await audit.close();
  if (cut > 0) logger.log('stop_incomplete', { connections: cut });
  else logger.log('stopped', {});
  proxy.closeAdmin();
  await Promise.all([notifier.told, logger.sink.flush()]);
  return cut > 0 ? EXIT_FAILED : 0;
}

/** Starts the proxy, but stops waiting once `ended` settles: a file access can block for a long time. */
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

/** The status line of `systemctl status`. */
function describe(proxy: Proxy, reloader: Reloader): string {
  const { connectionCount, state } = proxy;
  const serving = `${proxy.draining ? 'draining' : 'serving'}: ${state.listeners.length} listeners, ${connectionCount} connections`;
  return reloader.failing ? `${serving}; the last reload failed, see the log` : serving;
}

/** Runs the proxy until a signal stops it. Returns the exit code. */
export function serve(source: ServeSource, program: string): Promise<number> {
  return runProxy({
    load: () => readConfiguration(source, process.env),
    program,
    logging: DEFAULT_LOGGING,
  });
}
