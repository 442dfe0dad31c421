import { expect, it } from 'vitest';
import type { JobSummary } from '@/api/types';
import { exampleText } from './examples';

const run = (name: string, miou: number, change: Partial<JobSummary> = {}): JobSummary =>
  ({
    name, kind: 'distill', state: 'succeeded', dataset: 'scenes@48906c', task: 'semantic_segmentation',
    created_at: '2026-01-01', metrics: { 'best/miou': miou }, ...change,
  }) as unknown as JobSummary;

it('starts with a teacher to train, and once there is one, with a run that learns from the best', () => {
  expect(exampleText(undefined, [])).not.toMatch(/^teacher:/m);
  const jobs = [
    run('small', 27), run('big', 36), run('elsewhere', 80, { dataset: 'camvid@37a1e6' }),
    run('broken', 90, { state: 'failed' }),
  ];
  expect(exampleText(undefined, jobs)).toContain('teacher: job:big\n');
  expect(exampleText('scenes-acam', jobs)).toContain('teacher: job:big\n');
  expect(exampleText('scenes-teacher', jobs)).not.toContain('job:');
});
