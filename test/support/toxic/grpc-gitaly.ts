import {
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
} from '@grpc/grpc-js';

import type { Issued } from '../authority.js';
import { Expected, numberOf, pieces, type Exchange } from './content.js';
import { exchangeService, MESSAGE_BYTES_MAX } from './grpc-service.js';
import type { Witness } from './witness.js';

/** What one call has uploaded so far. */
class Upload {
  readonly #witness: Witness;
  #exchange: Exchange | undefined;
  #expected: Expected | undefined;

  constructor(witness: Witness) {
    this.#witness = witness;
  }

  take(message: Buffer): void {
    if (!this.#expected) {
      const number = numberOf(message);
      this.#exchange = number === undefined ? undefined : this.#witness.find(number);
      if (!this.#exchange) return;
      this.#expected = new Expected('the upload', this.#exchange.up);
    }
    const wrong = this.#expected.take(message);
    if (wrong !== undefined) this.#witness.wrong(this.#exchange?.plan.number, wrong);
  }

  /**
   * The client says that this was all; what passes on its connection, if it was. If not, the answer says so and the client tells:
   * to this library's server a call whose connection was cut or reset ends as one does that is finished, and then nobody hears it.
   */
  end(): Exchange | undefined {
    if (!this.#exchange) return undefined;
    if (this.#expected?.end() !== undefined) return undefined;
    this.#witness.hadAll(this.#exchange.plan.number);
    return this.#exchange;
  }
}

/** Starts a gRPC server that serves what `GrpcCalls` ask for, in Gitaly's place. */
export async function grpcGitaly(
  witness: Witness,
  tls?: Issued,
): Promise<{ port: number; stop: () => void }> {
  const server = new Server();
  const wrong = { code: status.DATA_LOSS, details: 'the upload is not what was sent' };
  const uploaded = (
    call: ServerReadableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
    done: (upload: Upload) => void,
  ): void => {
    const upload = new Upload(witness);
    call.on('data', (message: Buffer) => upload.take(message));
    call.on('error', () => undefined);
    call.on('end', () => {
      // The library ends the stream of a call too that was broken off; it says so.
      if (!call.cancelled) done(upload);
    });
  };
  const answer = (
    call: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
    upload: Upload,
  ): void => {
    const whole = upload.end();
    if (!whole) {
      call.emit('error', wrong);
      return;
    }
    for (const piece of pieces(whole.down, MESSAGE_BYTES_MAX, whole.plan)) call.write(piece);
    call.end();
  };
  server.addService(exchangeService, {
    unary: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
      const upload = new Upload(witness);
      upload.take(call.request);
      const whole = upload.end();
      if (whole) done(null, whole.down);
      else done(wrong);
    },
    serverStream: (call: ServerWritableStream<Buffer, Buffer>) => {
      const upload = new Upload(witness);
      upload.take(call.request);
      call.on('error', () => undefined);
      answer(call, upload);
    },
    clientStream: (call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
      uploaded(call, (upload) => {
        const whole = upload.end();
        if (whole) done(null, whole.down);
        else done(wrong);
      }),
    bothStreams: (call: ServerDuplexStream<Buffer, Buffer>) =>
      uploaded(call, (upload) => answer(call, upload)),
  });
  const credentials = tls
    ? ServerCredentials.createSsl(null, [
        { cert_chain: Buffer.from(tls.certificatePem), private_key: Buffer.from(tls.keyPem) },
      ])
    : ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  return { port, stop: () => server.forceShutdown() };
}
