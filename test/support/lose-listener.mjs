// Loaded into the program with `node --import`: on SIGUSR2 the program loses its listening sockets, except the admin
// port. No configuration can cause this, but monitoring must still report it.
import { Server as HttpServer } from 'node:http';
import { Server } from 'node:net';

/** @typedef {(...args: readonly unknown[]) => unknown} Method */

const listen = /** @type {Method} */ (Reflect.get(Server.prototype, 'listen'));
/** @type {Server[]} */
const servers = [];

Reflect.set(
  Server.prototype,
  'listen',
  /**
   * @this {Server}
   * @param {unknown[]} args
   */
  function rememberedListen(...args) {
    if (!(this instanceof HttpServer)) servers.push(this);
    return listen.apply(this, args);
  },
);

process.on('SIGUSR2', () => {
  for (const server of servers) server.close();
});
