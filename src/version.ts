import { readFileSync } from 'node:fs';

/** The version of this program, from its `package.json`, which lies above both `src/` and `dist/`. */
export function readVersion(): string {
  const content: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  if (
    typeof content === 'object' &&
    content !== null &&
    'version' in content &&
    typeof content.version === 'string'
  ) {
    return content.version;
  }
  throw new Error('package.json holds no version');
}
