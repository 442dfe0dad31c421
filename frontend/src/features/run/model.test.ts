import { expect, it } from 'vitest';
import type { EvaluationPayload, JobDetail, JobSummary } from '@/api/types';
import { classRows, controlRun, maskSets, nextEvaluation, studentEvaluations } from './model';

const evaluation = (iteration: number, miou: number, per_class = {}, role = 'student'): EvaluationPayload =>
  ({ role, split: 'val', iteration, metrics: { miou }, per_class, seconds: 1, is_best: false }) as EvaluationPayload;

it('keeps one evaluation an iteration: after a rewind the later one', () => {
  const job = {
    evaluations: [evaluation(0, 70, {}, 'teacher'), evaluation(100, 1), evaluation(200, 2), evaluation(200, 2.5)],
  } as unknown as JobDetail;
  expect(studentEvaluations(job).map((item) => [item.iteration, item.metrics.miou])).toEqual([[100, 1], [200, 2.5]]);
});

it('sorts classes by gap to the teacher, widest first, unknown last', () => {
  const rows = classRows(
    ['sky', 'sign', 'road'],
    evaluation(200, 50, { sky: 80, sign: null, road: 60 }),
    evaluation(100, 40, { sky: 81, road: 50 }),
    evaluation(0, 70, { sky: 85, sign: 30, road: 90 }, 'teacher'),
  );
  expect(rows.map((row) => [row.name, row.gap, row.change])).toEqual([['road', -30, 10], ['sky', -5, -1], ['sign', null, null]]);
});

it('counts the masks of a set from the names of their metrics', () => {
  const names = ['mask/logits/spatial/effective_rank', 'mask/logits/spatial/m00/mean', 'mask/logits/spatial/m01/mean', 'mask/logits/spatial/m01/std', 'lr'];
  expect(maskSets(names)).toEqual([{ rank: 'mask/logits/spatial/effective_rank', label: 'logits spatial', masks: 2 }]);
});

it('says when the next evaluation comes', () => {
  const job = { progress: { iteration: 120, iterations: 1000, iterations_per_second: 2 } } as unknown as JobDetail;
  expect(nextEvaluation(200, job)).toEqual({ at: 200, seconds: 40 });
  expect(nextEvaluation(null, job)).toBeNull();
});

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
