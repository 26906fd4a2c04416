import { parsed, refused, type Parsed } from './parsed.js';

/** Parses octal permission bits, as in chmod(1): `0660`. */
export function parseMode(text: string): Parsed<number> {
  if (!/^0?[0-7]{3}$/u.test(text))
    return refused('expected permission bits as three octal digits in quotes, such as "0660"');
  const mode = Number.parseInt(text, 8);
  // Without write permission only root could connect, regardless of the owner.
  if ((mode & 0o222) === 0)
    return refused('no client could connect: clients need write permission, as with "0660"');
  return parsed(mode);
}

/** Parses the name or the number of a user or a group. */
export function parseAccount(text: string): Parsed<string> {
  if (/^[0-9]+$/u.test(text))
    return Number(text) < 2 ** 32 - 1
      ? parsed(text)
      : refused('the number is too large for a user or a group');
  // Account directories allow more characters than useradd(8): dots, Active Directory's backslash, a trailing dollar sign.
  if (/^[^\s:/\p{Cc}-][^\s:/\p{Cc}]*$/u.test(text)) return parsed(text);
  return refused('expected the name or number of a user or a group, such as "git"');
}
