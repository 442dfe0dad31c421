import { expect, it } from 'vitest';
import type { JobSummary } from '@/api/types';
import { inOrder, matches } from './filter';

const job = (name: string, state: JobSummary['state'], extra: Partial<JobSummary> = {}): JobSummary =>
  ({ id: name, name, kind: 'distill', state, methods: [], tags: [], seed: 0, created_at: '2026-01-01T00:00:00Z', metrics: {}, alarms: 0, attempts: 0, progress: {}, ...extra }) as unknown as JobSummary;

it('needs every word, and looks at one column where asked', () => {
  const crow = job('loud-crow', 'failed', { methods: ['acam'], dataset: 'camvid@3f9c', reason: 'non_finite_loss' });
  expect(matches(crow, '')).toBe(true);
  expect(matches(crow, 'CROW camvid')).toBe(true);
  expect(matches(crow, 'crow scenes')).toBe(false);
  expect(matches(crow, 'state:fail method:acam')).toBe(true);
  expect(matches(crow, 'state:running')).toBe(false);
});

it('lists running jobs first, the newest first within a state', () => {
  const jobs = [
    job('old', 'succeeded'),
    job('new', 'failed', { created_at: '2026-02-01T00:00:00Z' }),
    job('next', 'queued'),
    job('now', 'running'),
  ];
  expect(inOrder(jobs).map((item) => item.name)).toEqual(['now', 'next', 'new', 'old']);
});
