import { expect, it } from 'vitest';
import type { JobSummary } from './types';
import { controlRun } from './control';

it('holds a distilled run against the newest student alone of the same student, data and seed', () => {
  const run = (name: string, change: Partial<JobSummary> = {}) =>
    ({
      name, kind: 'distill', state: 'succeeded', methods: [], student: 'S', dataset: 'd', seed: 0, created_at: '2026-01-01', progress: { iterations: 60 }, ...change,
    }) as unknown as JobSummary;
  const own = run('own', { methods: ['acam'] });
  const jobs = [
    own,
    run('same-seed'),
    run('other-seed', { seed: 1, created_at: '2026-01-03' }),
    run('failed', { state: 'failed', created_at: '2026-01-04' }),
    run('longer', { progress: { iterations: 90 } as JobSummary['progress'], created_at: '2026-01-04' }),
    run('other-data', { dataset: 'e', created_at: '2026-01-04' }),
    run('other-student', { student: 'T', created_at: '2026-01-04' }),
    run('distilled', { methods: ['logit'], created_at: '2026-01-04' }),
  ];
  expect(controlRun(own, jobs)?.name).toBe('same-seed');
  expect(controlRun({ ...own, seed: 7 }, jobs)?.name).toBe('other-seed');
  // which version of the data it is shows once a job has started
  expect(controlRun({ ...own, dataset: 'd@3f9c1e' }, jobs)?.name).toBe('same-seed');
  expect(controlRun({ ...own, dataset: 'd@3f9c1e' }, [run('other-version', { dataset: 'd@000000' })])).toBeUndefined();
  expect(controlRun(run('alone'), jobs)).toBeUndefined();
});
