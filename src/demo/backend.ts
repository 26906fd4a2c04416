import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';

import { demoService, HEALTH_SERVING, healthService, REPEATS } from './demo-service.js';

/** A gRPC server in Gitaly's place: health, and one method of each kind. */
export class DemoBackend {
  readonly port: number;
  readonly #server: Server;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  /** Starts it in plaintext on a port, 0 for any that is free. Rejects if the port is taken. */
  static start(port: number, host = '127.0.0.1'): Promise<DemoBackend> {
    const server = new Server();
    server.addService(healthService, {
      check: (_call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
        done(null, HEALTH_SERVING),
    });
    server.addService(demoService, { echo, repeat, count });
    return new Promise((resolve, reject) => {
      server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(new DemoBackend(server, bound));
      });
    });
  }

  stop(): void {
    this.#server.forceShutdown();
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
