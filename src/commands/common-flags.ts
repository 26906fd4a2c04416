import type { CommandFlag } from './command.js';

/** The flags of every command. */
export const COMMON_FLAGS: readonly CommandFlag[] = [
  { name: 'help', short: 'h', text: 'what the program does, or the command before it' },
  { name: 'version', short: 'V', text: 'the version' },
];
