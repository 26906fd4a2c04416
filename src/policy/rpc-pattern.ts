import type { RpcOperation } from './known-rpcs.js';

/** The RPCs that an entry of `allow` names. */
export type RpcPattern =
  | { readonly kind: 'all' }
  | { readonly kind: 'operation'; readonly operation: RpcOperation }
  | { readonly kind: 'service'; readonly service: string }
  | { readonly kind: 'rpc'; readonly service: string; readonly method: string };

const OPERATIONS = ['accessor', 'mutator', 'maintenance'] as const;

const NAME = /^((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)\/([A-Za-z_]\w*|\*)$/u;

/**
 * Reads an entry of `allow`: `service/Method`, `service/*`, `*`, or an operation.
 *
 * @returns the pattern, or what is wrong with it and what would be right.
 */
export function readRpcPattern(text: string): RpcPattern | string {
  if (text === '*') return { kind: 'all' };
  const operation = OPERATIONS.find((one) => one === text);
  if (operation !== undefined) return { kind: 'operation', operation };
  const [, service, method] = NAME.exec(text) ?? [];
  if (service === undefined || method === undefined) {
    const hint = text.startsWith('/') && NAME.test(text.slice(1)) ? `: write "${text.slice(1)}"` : '';
    return `expected "service/Method" such as "gitaly.CommitService/FindCommit", "service/*", "*", or one of ${OPERATIONS.join(', ')}${hint}`;
  }
  return method === '*' ? { kind: 'service', service } : { kind: 'rpc', service, method };
}
