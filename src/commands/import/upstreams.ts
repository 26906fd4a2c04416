import type { FoundUpstream } from './found.js';
import type { SettingReader } from './setting-reader.js';
import type { Setting, SettingPath } from './setting.js';

/** `gitaly_address` of each storage: `{ default: { gitaly_address: 'tls://…' } }`. */
export function storagesIn(reader: SettingReader, path: SettingPath): FoundUpstream[] {
  // Omnibus knows the address of a Gitaly on the same machine, so the address may be missing.
  return namesIn(reader.at(path)).flatMap((name) =>
    upstream(reader, name, [...path, name], { address: 'gitaly_address', required: false }),
  );
}

/** The nodes of Praefect: `[[virtual_storage]]` with `[[virtual_storage.node]]`. */
export function nodesIn(reader: SettingReader, below: SettingPath): FoundUpstream[] {
  const virtualStorages = [...below, 'virtual_storage'];
  return itemsIn(reader, virtualStorages).flatMap((virtualStorage) =>
    itemsIn(reader, [...virtualStorage, 'node']).flatMap((node) => {
      const name = reader.text([...node, 'storage'])?.value ?? `node-${node.at(-1) ?? ''}`;
      return upstream(reader, name, node, { address: 'address', required: true });
    }),
  );
}

/** The nodes of Praefect before GitLab 16: `praefect['virtual_storages'] = { 'default' => { 'nodes' => { … } } }`. */
export function legacyNodesIn(reader: SettingReader, path: SettingPath): FoundUpstream[] {
  return namesIn(reader.at(path)).flatMap((virtualStorage) => {
    const here = [...path, virtualStorage];
    const nodes = namesIn(reader.at(here)).includes('nodes') ? [...here, 'nodes'] : here;
    return namesIn(reader.at(nodes)).flatMap((name) => {
      const node = [...nodes, name];
      return reader.at(node)?.kind === 'map'
        ? upstream(reader, name, node, { address: 'address', required: true })
        : [];
    });
  });
}

function namesIn(setting: Setting | undefined): string[] {
  return setting?.kind === 'map' ? [...setting.entries.keys()] : [];
}

/** The paths of the items of a list. */
function itemsIn(reader: SettingReader, path: SettingPath): SettingPath[] {
  const list = reader.at(path);
  return list?.kind === 'list' ? list.items.map((_item, index) => [...path, index]) : [];
}

function upstream(
  reader: SettingReader,
  name: string,
  path: SettingPath,
  { address, required }: { readonly address: string; readonly required: boolean },
): FoundUpstream[] {
  const found = reader.text([...path, address]);
  if (found !== undefined) return [{ name, address: found.value, ...found.place }];
  const above = reader.at(path);
  if (required && above !== undefined && reader.isAbsent([...path, address]))
    reader.list([...path, address], above.line, 'expected an address');
  return [];
}
