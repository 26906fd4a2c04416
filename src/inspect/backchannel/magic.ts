/** Gitaly, internal/grpc/backchannel: what a client sends before yamux. */
export const BACKCHANNEL_MAGIC = Buffer.from('backchannel', 'latin1');
