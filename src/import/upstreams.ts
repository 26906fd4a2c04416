import type { Upstream } from './found.js';
import { keyBelow, settingAt, type Setting, type Unread } from './setting.js';

/** `gitaly_address` of each storage: `{ default: { gitaly_address: 'tls://…' } }`. */
export function storagesIn(storages: Setting | undefined, key: string, unread: Unread[]): Upstream[] {
  if (storages?.kind !== 'map') return [];
  return [...storages.entries].flatMap(([name, storage]) => {
    const here = keyBelow(key, name);
    // The address of a Gitaly on the same machine is known to Omnibus and need not be written.
    return upstream(name, storage, ['gitaly_address'], here, unread, false);
  });
}

/** The nodes of Praefect: `[[virtual_storage]]` with `[[virtual_storage.node]]`. */
export function nodesIn(configuration: Setting, key: string, unread: Unread[]): Upstream[] {
  const virtualStorages = settingAt(configuration, ['virtual_storage']);
  if (virtualStorages?.kind !== 'list') return [];
  return virtualStorages.items.flatMap((virtualStorage, index) => {
    const here = `${keyBelow(key, 'virtual_storage')}[${index}].node`;
    const nodes = settingAt(virtualStorage, ['node']);
    if (nodes?.kind !== 'list') return [];
    return nodes.items.flatMap((node, position) => {
      const storage = settingAt(node, ['storage']);
      const name = storage?.kind === 'scalar' ? String(storage.value) : `node-${position}`;
      return upstream(name, node, ['address'], `${here}[${position}]`, unread, true);
    });
  });
}

/** The nodes of Praefect before GitLab 16: `praefect['virtual_storages'] = { 'default' => { 'nodes' => { … } } }`. */
export function legacyNodesIn(
  virtualStorages: Setting | undefined,
  key: string,
  unread: Unread[],
): Upstream[] {
  if (virtualStorages?.kind !== 'map') return [];
  return [...virtualStorages.entries].flatMap(([name, virtualStorage]) => {
    const nodes = settingAt(virtualStorage, ['nodes']) ?? virtualStorage;
    if (nodes.kind !== 'map') return [];
    const here = keyBelow(keyBelow(key, name), 'nodes');
    return [...nodes.entries].flatMap(([storage, node]) =>
      node.kind === 'map' ? upstream(storage, node, ['address'], keyBelow(here, storage), unread, true) : [],
    );
  });
}

function upstream(
  name: string,
  setting: Setting,
  path: readonly string[],
  key: string,
  unread: Unread[],
  required: boolean,
): Upstream[] {
  const address = settingAt(setting, path);
  const here = path.reduce(keyBelow, key);
  if (address?.kind === 'scalar' && typeof address.value === 'string' && address.value !== '')
    return [{ name, address: address.value, line: address.line, key: here }];
  // What could not be read is listed by whoever knows the whole file.
  if (address?.kind !== 'unread' && (address !== undefined || required))
    unread.push({ key: here, line: address?.line ?? setting.line, reason: 'an address is expected there' });
  return [];
}
