import { createServer, type Server as TcpServer, type Socket } from 'node:net';
import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ConnectionInjector,
} from '@grpc/grpc-js';

import {
  demoService,
  HEALTH_SERVING,
  healthService,
  REPEATS,
  SERVER_INFO,
  serverService,
} from './demo-service.js';
import { BACKCHANNEL_MAGIC } from '../../inspect/backchannel/magic.js';
import { YamuxSession } from './yamux-session.js';

/**
 * A gRPC server in place of Gitaly, reachable over the backchannel too. It implements the health service, the service
 * from which `check` reads version and storages, and one method of each kind.
 */
export class DemoBackend {
  readonly port: number;
  readonly #listening: TcpServer;
  readonly #grpc: Server;
  readonly #connections: ReadonlySet<Socket>;

  private constructor(listening: TcpServer, port: number, grpc: Server, connections: ReadonlySet<Socket>) {
    this.port = port;
    this.#listening = listening;
    this.#grpc = grpc;
    this.#connections = connections;
  }

  /** Starts it in plaintext on a port (0 for any free port). Rejects if the port is in use. */
  static start(port: number, host = '127.0.0.1'): Promise<DemoBackend> {
    const grpc = new Server();
    const answer =
      (message: Buffer) => (_call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
        done(null, message);
    grpc.addService(healthService, { check: answer(HEALTH_SERVING) });
    grpc.addService(serverService, { serverInfo: answer(SERVER_INFO) });
    grpc.addService(demoService, { echo, repeat, count });
    const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
    const connections = new Set<Socket>();
    const listening = createServer({ noDelay: true }, (connection) => {
      connections.add(connection);
      connection.once('close', () => connections.delete(connection));
      acceptEither(connection, injector);
    });
    return new Promise((resolve, reject) => {
      listening.once('error', reject);
      listening.listen({ port, host }, () => {
        const bound = listening.address();
        if (bound === null || typeof bound === 'string') reject(new Error('the backend has no port'));
        else resolve(new DemoBackend(listening, bound.port, grpc, connections));
      });
    });
  }

  stop(): void {
    this.#listening.close();
    this.#grpc.forceShutdown();
    for (const connection of this.#connections) connection.destroy();
  }
}

function echo(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>): void {
  done(null, call.request);
}

function repeat(call: ServerWritableStream<Buffer, Buffer>): void {
  for (let sent = 0; sent < REPEATS; sent++) call.write(call.request);
  call.end();
}

function count(call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>): void {
  let bytes = 0;
  call.on('data', (message: Buffer) => (bytes += message.length));
  call.on('end', () => done(null, Buffer.from(String(bytes))));
}

/**
 * Serves a connection as Gitaly does: the first 11 bytes decide between gRPC and the backchannel, whose first stream
 * carries gRPC.
 */
export function acceptEither(connection: Socket, server: ConnectionInjector): void {
  connection.on('error', () => undefined);
  const peek = (): void => {
    const head: unknown = connection.read(BACKCHANNEL_MAGIC.length);
    if (!Buffer.isBuffer(head)) return;
    connection.off('readable', peek);
    if (!head.equals(BACKCHANNEL_MAGIC)) {
      connection.unshift(head);
      server.injectConnection(connection);
      return;
    }
    let isFirst = true;
    const session = new YamuxSession(connection, 'server', (stream) => {
      if (isFirst) stream.once('close', () => session.end());
      isFirst = false;
      server.injectConnection(stream);
    });
  };
  connection.on('readable', peek);
}
