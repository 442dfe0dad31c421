import { expect, it } from 'vitest';
import { silence } from './time';

it('counts silence from the last word, wherever it was heard', () => {
  const now = Date.parse('2026-01-01T00:01:00Z');
  expect(silence(now, undefined, '2026-01-01T00:00:38Z')).toBe(22_000);
  expect(silence(now, now - 3_000, '2026-01-01T00:00:38Z')).toBe(3_000);
  expect(silence(now, undefined, null, '2026-01-01T00:00:50Z')).toBe(10_000);
  expect(silence(now, undefined, null, null)).toBeNull();
  // A server whose clock is ahead is not silent for a negative time.
  expect(silence(now, undefined, '2026-01-01T00:02:00Z')).toBe(0);
});
