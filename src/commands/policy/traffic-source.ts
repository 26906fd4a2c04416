import { STATUS_PAGE_ENTRIES_MAX } from '../../limits.js';
import type { CommandFlag } from '../command.js';
import { UsageError } from '../parse-flags.js';

/** The page of the admin port with the observed traffic. */
const PAGE = '/-/policy';

/** The flag of the commands that read the observed traffic. */
export const FROM_FLAG: CommandFlag = {
  name: 'from',
  value: { label: 'URL', completes: 'nothing' },
  text: 'the admin port of the running proxy, for example http://127.0.0.1:9237',
};

/** Reads `--from`, the address of an admin port, and returns the address of its page. */
export function readFrom(command: string, value: string | undefined): URL {
  const example = `${command} --from http://127.0.0.1:9237`;
  if (value === undefined)
    throw new UsageError(`${command} needs --from, the URL of prometheus_listen_addr: ${example}`);
  if (!URL.canParse(value) || !/^https?:\/\//iu.test(value))
    throw new UsageError(`--from ${value}: expected the URL of the admin port: ${example}`);
  const url = new URL(value);
  url.pathname = url.pathname.endsWith(PAGE) ? url.pathname : `${url.pathname.replace(/\/$/u, '')}${PAGE}`;
  url.search = `?limit=${STATUS_PAGE_ENTRIES_MAX}`;
  return url;
}
