/**
 * Loads the modules of a running proxy in several steps. Node opens all files of one import at once, and a low limit of open
 * files (`ulimit -n 64`) is not sufficient for those of the whole program.
 */
export async function loadInSteps(): Promise<void> {
  await import('../config/load.js');
  await import('../tls/material.js');
  await import('../inspect/connection-inspector.js');
  await import('../telemetry/metrics.js');
  await import('../connection/connection.js');
  await import('../http/http-connection.js');
  await import('../admin/admin-server.js');
  await import('../traffic/own-traffic.js');
}
