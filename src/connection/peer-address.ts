/** An end of a TCP connection; `undefined` stands for a unix socket or an end that nobody knows. */
export interface SocketEnd {
  readonly address: string;
  readonly port: number;
}

const IPV4_MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** A socket's end as Node tells it, IPv4 out of its IPv6 form. */
export function socketEnd(address: string | undefined, port: number | undefined): SocketEnd | undefined {
  if (address === undefined || port === undefined) return undefined;
  return { address: IPV4_MAPPED.exec(address)?.[1] ?? address, port };
}

/** `10.0.0.1:5000`, `[::1]:5000`, or `@` for a unix socket, which is what Gitaly logs. */
export function formatEnd(end: SocketEnd | undefined): string {
  if (end === undefined) return '@';
  return end.address.includes(':') ? `[${end.address}]:${end.port}` : `${end.address}:${end.port}`;
}
