/** The sending end of a connection: the one that opened it, or the other. */
export type Sender = 'client' | 'server';

/** The other end. */
export function other(sender: Sender): Sender {
  return sender === 'client' ? 'server' : 'client';
}
