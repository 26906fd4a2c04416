import {
  settingAt,
  unread,
  type FoundSetting,
  type SettingPlace,
  type Setting,
  type SettingPath,
  type Unread,
} from './setting.js';
import { templateIn } from './template.js';

/**
 * Reads the settings that the proxy needs. A setting that cannot be read is listed when it is requested; settings that are
 * never requested, such as a token, are not listed.
 */
export class SettingReader {
  constructor(
    private readonly root: Setting,
    /** Formats a path for prose. */
    private readonly key: (path: SettingPath) => string,
    private readonly unread: Unread[],
  ) {}

  /** The setting at a path, if it can be read. */
  at(path: SettingPath): Setting | undefined {
    const found = this.#find(path);
    if (found?.setting.kind !== 'unread') return found?.setting;
    this.list(found.path, found.setting.line, found.setting.reason);
    return undefined;
  }

  /** The first of these paths that is set to a non-empty string, with its position. */
  text(
    ...paths: readonly SettingPath[]
  ): { readonly value: string; readonly place: SettingPlace } | undefined {
    for (const path of paths) {
      const setting = this.at(path);
      if (setting?.kind === 'scalar' && typeof setting.value === 'string' && setting.value !== '')
        return { value: setting.value, place: { key: this.key(path), line: setting.line } };
      const empty = setting?.kind === 'scalar' && (setting.value === null || setting.value === '');
      if (setting !== undefined && !empty) this.list(path, setting.line, 'expected a string');
    }
    return undefined;
  }

  /** Whether one of these paths itself cannot be read. If everything around it cannot be read, its name may not be set at all. */
  isUnread(...paths: readonly SettingPath[]): boolean {
    return paths.some((path) => {
      const found = this.#find(path);
      return found?.setting.kind === 'unread' && found.path.length === path.length;
    });
  }

  isAbsent(path: SettingPath): boolean {
    return settingAt(this.root, path) === undefined;
  }

  /** Lists a setting, if it is set, with the reason why it is not imported. */
  skip(path: SettingPath, reason: string): void {
    const setting = this.at(path);
    if (setting !== undefined) this.list(path, setting.line, reason);
  }

  list(path: SettingPath, line: number | undefined, reason: string): void {
    this.unread.push({ key: this.key(path), line, reason });
  }

  /** A template replaces its marks by a value that only the rendered file contains. */
  #find(path: SettingPath): FoundSetting | undefined {
    const found = settingAt(this.root, path);
    if (found?.setting.kind !== 'scalar' || typeof found.setting.value !== 'string') return found;
    const template = templateIn(found.setting.value);
    return template === undefined
      ? found
      : { path, setting: unread(`a template computes it (${template})`, found.setting.line) };
  }
}
