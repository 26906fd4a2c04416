import type {
  ClientDuplexStream,
  ClientReadableStream,
  ClientUnaryCall,
  ClientWritableStream,
  Metadata,
  StatusObject,
} from '@grpc/grpc-js';

/** All that a client has seen of a call. */
export interface Outcome<Response> {
  readonly header: Metadata | undefined;
  readonly messages: readonly Response[];
  readonly status: StatusObject;
}

/** A call whose answer is one message: `start` makes it, and gives the message to whom it is handed. */
export function unaryOutcome<Response>(
  start: (
    done: (error: Error | null, message?: Response) => void,
  ) => ClientUnaryCall | ClientWritableStream<never>,
): Promise<Outcome<Response>> {
  return new Promise((resolve) => {
    const messages: Response[] = [];
    let header: Metadata | undefined;
    // The error says what the status says, which comes after it and after the message.
    const call = start((_error, message) => {
      if (message !== undefined) messages.push(message);
    });
    call.on('metadata', (metadata: Metadata) => (header = metadata));
    call.on('status', (status: StatusObject) => resolve({ header, messages, status }));
  });
}

/** A call whose answer is a stream of messages; `seen` is told of each, with how many came before it. */
export function streamOutcome<Response>(
  call: ClientReadableStream<Response> | ClientDuplexStream<never, Response>,
  seen: (index: number) => void = () => undefined,
): Promise<Outcome<Response>> {
  return new Promise((resolve) => {
    const messages: Response[] = [];
    let header: Metadata | undefined;
    let status: StatusObject | undefined;
    let ended = false;
    const settle = (): void => {
      if (status !== undefined && ended) resolve({ header, messages, status });
    };
    call.on('metadata', (metadata) => (header = metadata));
    call.on('data', (message: Response) => seen(messages.push(message) - 1));
    call.on('error', () => undefined);
    call.on('status', (last) => {
      status = last;
      settle();
    });
    call.on('end', () => {
      ended = true;
      settle();
    });
  });
}
