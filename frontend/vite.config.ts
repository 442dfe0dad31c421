import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

// The API answers on another port during development only; in production FastAPI serves both.
const api = process.env.ACAMKD_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  server: { proxy: { '/api': api, '/readyz': api } },
  build: {
    // A data: URI would need a wider content security policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
  },
  // A file that needs a document says so: `// @vitest-environment happy-dom`. The others start ten times faster.
  test: { include: ['src/**/*.test.{ts,tsx}'] },
});
