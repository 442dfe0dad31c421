import { expect, it } from 'vitest';
import type { CompareAnswer } from '@/api/types';
import { classDifferences, evaluationsOf, groupBySeed, tellingDifferences } from './model';

const job = (name: string, methods: string[], per_class = {}) => ({ job: { id: name, name, methods, metrics: {} }, per_class });
const answer = (jobs: unknown[], differing: unknown[]): CompareAnswer =>
  ({ jobs, differing, not_comparable: [], series: [] }) as unknown as CompareAnswer;

it('puts runs that differ in nothing but the seed into one group', () => {
  const groups = groupBySeed(
    answer(
      [job('a', ['acam']), job('b', ['acam']), job('c', ['acam']), job('d', [])],
      [
        { path: 'seed', values: [0, 1, 0, 0] },
        { path: 'name', values: ['a', 'b', 'c', 'd'] },
        { path: 'optimizer.lr', values: [0.02, 0.02, 0.01, 0.02] },
      ],
    ),
  );
  expect(groups.map((group) => [group.label, group.members])).toEqual([['acam (2 seeds)', [0, 1]], ['c', [2]], ['d', [3]]]);
});

it('does not list the options of a method against a run that has none', () => {
  const rows = tellingDifferences(
    answer([], [
      { path: 'distill', values: [null, []] },
      { path: 'distill.0.method', values: ['acam', null] },
      { path: 'distill.0.eps', values: [1e-6, null] },
      { path: 'distill.1.weight', values: [1, 2] },
      { path: 'optimizer.lr', values: [1, 2] },
    ]),
  );
  expect(rows.map((row) => row.path)).toEqual(['distill.0.method', 'distill.1.weight', 'optimizer.lr']);
});

it('makes one row of a part that some runs do not have, unless those that have it differ in it', () => {
  const teacher = (weights: unknown[]) => [
    { path: 'teacher.arch.family', values: [null, 'deeplabv3', 'deeplabv3'] },
    { path: 'teacher.arch.width', values: [null, 1, 1] },
    { path: 'teacher.weights.job', values: weights },
    { path: 'optimizer.lr', values: [1, 2, 1] },
  ];
  const jobs = ['a', 'b', 'c'].map((name) => ({ job: { id: name, name, methods: [], teacher: name === 'a' ? null : 'DLv3' } }));
  expect(tellingDifferences(answer(jobs, teacher([null, 't', 't'])))).toEqual([
    { path: 'teacher', values: ['none', 'DLv3', 'DLv3'] },
    { path: 'optimizer.lr', values: [1, 2, 1] },
  ]);
  expect(tellingDifferences(answer(jobs, teacher([null, 't', 'u']))).map((row) => row.path)).toEqual([
    'teacher.arch.family', 'teacher.arch.width', 'teacher.weights.job', 'optimizer.lr',
  ]);
});

it('takes differences per class to the baseline, and none where a score is missing', () => {
  const jobs = [job('a', [], { sky: 80, sign: null }), job('b', [], { sky: 78.5, sign: 3 })];
  expect(classDifferences(answer(jobs, []).jobs)).toEqual([
    { name: 'sky', baseline: 80, differences: [-1.5] },
    { name: 'sign', baseline: null, differences: [null] },
  ]);
});

it('steps through the evaluations of all runs, each once', () => {
  expect(evaluationsOf([[100, 1000], [50, 100], []])).toEqual([50, 100, 1000]);
});
