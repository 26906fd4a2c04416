import { warning, type Finding } from './finding.js';

const READ_OR_WRITE = 0o6;

/** Whether others than its owner may read a private key. @param mode - as `stat` has it */
export function judgeKeyMode(mode: number): Finding[] {
  if ((mode & READ_OR_WRITE) !== 0)
    return [warning('key_readable_by_others', 'readable by others', 'chmod 600 it')];
  if ((mode & (READ_OR_WRITE << 3)) !== 0) {
    return [
      warning(
        'key_readable_by_group',
        `readable by its group (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
        'chmod 600 it, unless the program that uses it reads it as a member of that group',
      ),
    ];
  }
  return [];
}
