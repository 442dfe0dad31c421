import { expect, it } from 'vitest';
import type { EvaluationPayload, JobDetail } from '@/api/types';
import { classRows, maskSets, nextEvaluation, studentEvaluations } from './model';

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
