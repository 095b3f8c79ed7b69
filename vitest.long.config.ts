import { defineConfig } from 'vitest/config'

/** Checks that take longer than `npm test` may: installing from the registry, full counts. */
export default defineConfig({
  test: {
    include: ['test/long/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    maxWorkers: 1,
    testTimeout: 600_000,
    hookTimeout: 600_000
  }
})
