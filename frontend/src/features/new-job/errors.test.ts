// @vitest-environment happy-dom
import { describe, expect, it } from 'vitest';
import { ApiError } from '@/api/client';
import type { ErrorInfo } from '@/api/types';
import { countBelow, errorTree, flatten } from './errors';
import { problemsOf } from './use-dry-run';

const problem = (field: string | null, message: string, hint: string | null = null): ErrorInfo => ({
  code: 'spec.invalid', message, hint, field, value: null,
});
const PROBLEMS = [
  problem('optimizer.lr', 'too small', 'try 0.02'),
  problem('distill.0.at', 'no level'),
  problem('distill.0.at', 'twice'),
  problem(null, 'as a whole'),
];

describe('problems of a dry run', () => {
  it('lie at the fields they name', () => {
    const tree = errorTree(PROBLEMS);
    expect(tree.optimizer).toEqual({ lr: { __errors: ['too small (try 0.02)'] } });
    expect(tree.distill).toEqual({ 0: { at: { __errors: ['no level', 'twice'] } } });
    expect(tree.__errors).toEqual(['as a whole']);
  });

  it('are all shown at a field in its short form', () => {
    expect(flatten(errorTree([problem('student.arch', 'unknown preset')]).student as never)).toEqual(['unknown preset']);
    expect(flatten(undefined)).toEqual([]);
  });

  it('are counted for the section that hides them, and for no namesake', () => {
    expect(countBelow(PROBLEMS, 'distill')).toBe(2);
    expect(countBelow([problem('train.ema', 'x'), problem('training', 'y')], 'train')).toBe(1);
  });

  it('include a refusal without a list', () => {
    expect(problemsOf(new ApiError(422, 'spec.yaml', 'line 2: no', null))).toMatchObject([{ code: 'spec.yaml', field: null }]);
  });
});
