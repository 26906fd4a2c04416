import { createRequire } from 'node:module';

import type * as Zod from 'zod';

/**
 * The schema library, by `require`: an `import` opens all files of a module at once, of this one more than eighty, and
 * the program must start with as few as 64 descriptors (`ulimit -n 64`). `require` opens one after the other.
 */
export const { z } = createRequire(import.meta.url)('zod') as typeof Zod;
