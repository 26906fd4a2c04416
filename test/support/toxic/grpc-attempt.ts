import {
  Client,
  type ChannelCredentials,
  type ClientReadableStream,
  type ClientWritableStream,
  type ServiceError,
  status,
} from '@grpc/grpc-js';

import { OWN_CONNECTION } from '../grpc-channel.js';
import { Expected, pieces, type Exchange } from './content.js';
import { exchangeService, MESSAGE_BYTES_MAX } from './grpc-service.js';
import type { Attempt, Seen } from './seen.js';

/**
 * As Gitaly's clients have one. It is longer than all of the proxy's: a call that comes to it was not ended by its library when
 * its connection was.
 */
const DEADLINE_MS = 30_000;

type GrpcKind = 'unary' | 'server stream' | 'client stream' | 'both streams';

/** One call of grpc-js on a connection of its own. */
export class GrpcAttempt implements Attempt {
  readonly seen: Promise<Seen>;
  readonly #client: Client;
  #settle: (seen: Seen) => void = () => undefined;

  constructor({ plan, up, down }: Exchange, kind: GrpcKind, port: number, credentials: ChannelCredentials) {
    this.seen = new Promise((resolve) => (this.#settle = resolve));
    this.#client = new Client(`127.0.0.1:${port}`, credentials, OWN_CONNECTION);
    const answer = new Expected('the answer', down);
    const client = this.#client;
    const { unary, serverStream, clientStream, bothStreams } = exchangeService;
    const single = (error: ServiceError | null, message?: Buffer): void => {
      if (error) this.#failed(error);
      else this.#ended(answer.take(message ?? Buffer.alloc(0)) ?? answer.end());
    };
    const many = (call: ClientReadableStream<Buffer>): void => {
      let wrong: string | undefined;
      call.on('data', (message: Buffer) => (wrong ??= answer.take(message)));
      call.on('error', (error: ServiceError) => this.#failed(error));
      // The status comes before the last messages have been read, and the stream of a call that has failed ends as well.
      let isOk = false;
      call.on('status', ({ code }) => (isOk = code === status.OK));
      call.on('end', () => {
        if (isOk) this.#ended(wrong ?? answer.end());
      });
    };
    const asIs = unary.requestSerialize;
    const options = { deadline: Date.now() + DEADLINE_MS };
    const upload = (call: ClientWritableStream<Buffer>): void => {
      for (const piece of pieces(up, MESSAGE_BYTES_MAX, plan)) call.write(piece);
      call.end();
    };
    switch (kind) {
      case 'unary':
        client.makeUnaryRequest(unary.path, asIs, asIs, up, options, single);
        break;
      case 'server stream':
        many(client.makeServerStreamRequest(serverStream.path, asIs, asIs, up, options));
        break;
      case 'client stream':
        upload(client.makeClientStreamRequest(clientStream.path, asIs, asIs, options, single));
        break;
      case 'both streams': {
        const call = client.makeBidiStreamRequest(bothStreams.path, asIs, asIs, options);
        many(call);
        upload(call);
        break;
      }
    }
  }

  vanish(): void {
    this.#over({ what: 'vanished' });
  }

  #failed(error: ServiceError): void {
    // What Gitaly's place says of bytes that it was not sent.
    if (error.code === status.DATA_LOSS) this.#over({ what: 'wrong', how: error.details });
    else this.#over({ what: 'error', how: status[error.code] });
  }

  #ended(wrong: string | undefined): void {
    this.#over(wrong === undefined ? { what: 'all' } : { what: 'wrong', how: wrong });
  }

  #over(seen: Seen): void {
    this.#settle(seen);
    this.#client.close();
  }
}
