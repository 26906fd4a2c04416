import type { CommandEntry } from './command.js';
import { AUDIT_VERIFY } from './audit/verify-command.js';
import { CERTIFICATES_CREATE } from './certificates/create-command.js';
import { CERTIFICATES_INSPECT } from './certificates/inspect-command.js';
import { CHECK } from './check/check-command.js';
import { completionEntry } from './completion/completion-command.js';
import { CONFIGURATION_IMPORT } from './import/import-command.js';
import { CONFIGURATION_VALIDATE } from './validate/validate-command.js';
import { DEMO } from './demo/demo-command.js';
import { manualEntry } from './manual/manual-command.js';
import { RPCS } from './rpcs/rpcs-command.js';
import { POLICY_SUGGEST, POLICY_TEST } from './policy/policy-commands.js';
import { CONFIGURATION_REHEARSE } from './rehearse/rehearse-command.js';
import { SERVE } from './serve/serve-command.js';

/** All commands, in the order in which help lists them. */
export const COMMANDS: readonly CommandEntry[] = [
  SERVE,
  DEMO,
  CHECK,
  CONFIGURATION_VALIDATE,
  CONFIGURATION_REHEARSE,
  CONFIGURATION_IMPORT,
  POLICY_SUGGEST,
  POLICY_TEST,
  CERTIFICATES_CREATE,
  CERTIFICATES_INSPECT,
  AUDIT_VERIFY,
  RPCS,
  completionEntry(() => COMMANDS),
  manualEntry(() => COMMANDS),
];
