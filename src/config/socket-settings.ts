import { parsed, refused, type Parsed } from './parsed.js';

/** Reads permission bits in octal, as in chmod(1): `0660`. */
export function parseMode(text: string): Parsed<number> {
  if (!/^0?[0-7]{3}$/u.test(text))
    return refused('expected permission bits as three octal digits in quotes, such as "0660"');
  const mode = Number.parseInt(text, 8);
  // Without write permission only root could connect, regardless of the owner.
  if ((mode & 0o222) === 0)
    return refused('nobody could connect: a client must be able to write, as with "0660"');
  return parsed(mode);
}

/** Reads the name or the number of a user or a group. */
export function parseAccount(text: string): Parsed<string> {
  if (/^[0-9]+$/u.test(text))
    return Number(text) < 2 ** 32 - 1
      ? parsed(text)
      : refused('the number is too large for a user or a group');
  // Directories of accounts allow more characters than useradd(8): a dot, a backslash of Active Directory, a trailing dollar.
  if (/^[^\s:/\p{Cc}-][^\s:/\p{Cc}]*$/u.test(text)) return parsed(text);
  return refused('expected the name or number of a user or a group, such as "git"');
}
