// Loaded into the program with `node --import`: on SIGUSR2 it loses the sockets that it listens on, the admin port's
// excepted. No configuration can bring this about; whoever watches the program must learn of it all the same.
import { Server as HttpServer } from 'node:http';
import { Server } from 'node:net';

const { listen } = Server.prototype;
const servers = [];

Server.prototype.listen = function rememberedListen(...args) {
  if (!(this instanceof HttpServer)) servers.push(this);
  return listen.apply(this, args);
};

process.on('SIGUSR2', () => {
  for (const server of servers) server.close();
});
