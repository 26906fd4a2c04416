import type { CommandEntry } from './command.js';
import { CHECK } from './table/check.js';
import { CERTIFICATES_CREATE } from './table/certificates-create.js';
import { CERTIFICATES_INSPECT } from './table/certificates-inspect.js';
import { completionEntry } from './table/completion.js';
import { CONFIGURATION_VALIDATE } from './table/configuration-validate.js';
import { DEMO } from './table/demo.js';
import { manualEntry } from './table/manual.js';
import { SERVE } from './table/serve.js';

/** All commands, in the order in which help lists them. The first is meant where flags alone are given. */
export const COMMANDS: readonly CommandEntry[] = [
  SERVE,
  DEMO,
  CHECK,
  CONFIGURATION_VALIDATE,
  CERTIFICATES_CREATE,
  CERTIFICATES_INSPECT,
  completionEntry(() => COMMANDS),
  manualEntry(() => COMMANDS),
];
