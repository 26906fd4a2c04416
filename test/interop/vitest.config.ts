import { defineConfig } from 'vitest/config';

// For `npm run test:interop`: tests that need Go, which `npm test` does without.
export default defineConfig({
  test: { include: ['test/interop/*.interop.ts'], testTimeout: 60_000, hookTimeout: 300_000 },
});
