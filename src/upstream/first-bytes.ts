import type { Upstream } from './dialer.js';
import { UpstreamFailure, upstreamFailure } from './failure.js';

/**
 * Waits for the first bytes of an upstream that sends first, then pauses it. HTTP/2 servers do: their
 * SETTINGS do not wait for a request (RFC 9113 section 3.4). A stopped process, whose kernel still accepts, sends
 * nothing.
 *
 * Rejects with an `UpstreamFailure` after `timeoutMs` milliseconds, or when upstream closes; then the caller destroys `upstream`.
 */
export function firstBytes({ stream, raw, receive }: Upstream, timeoutMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      stream.off('data', onData).off('end', onEnd).off('error', onEnd);
      raw.off('close', onEnd);
    };
    const fail = (failure: UpstreamFailure): void => {
      stop();
      reject(failure);
    };
    const timer = setTimeout(() => {
      const words = `it accepted the connection and sent nothing for ${timeoutMs} ms (timeouts.dial)`;
      fail(new UpstreamFailure('silent', words));
    }, timeoutMs);
    const onEnd = (): void => {
      const error = stream.errored ?? raw.errored;
      fail(
        error ? upstreamFailure(error) : new UpstreamFailure('closed', 'it closed the connection at once'),
      );
    };
    const onData = (bytes: Buffer): void => {
      stop();
      stream.pause();
      resolve(bytes);
    };
    receive?.((length, buffer) => {
      // The buffer may be that of other connections too.
      onData(Buffer.from(buffer.subarray(0, length)));
      return false;
    });
    stream.on('data', onData).on('end', onEnd).on('error', onEnd);
    raw.on('close', onEnd);
    stream.resume();
  });
}
