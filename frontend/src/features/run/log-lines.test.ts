import { expect, it } from 'vitest';
import { iterationOf, nearestLine } from './log-lines';

it('reads the iteration that a line names', () => {
  expect(iterationOf('iteration 20/60: val miou 21.47 (best so far), 0.5 s')).toBe(20);
  expect(iterationOf('resumed at iteration 1,400')).toBe(1400);
  expect(iterationOf('wrote 12 files to bit 7')).toBeNull();
});

it('finds the line nearest to the cursor, the first of equals', () => {
  expect(nearestLine([null, 10, 20, 20, 30], 21)).toBe(2);
  expect(nearestLine([null, 10], 500)).toBe(1);
  expect(nearestLine([null], 5)).toBe(-1);
  expect(nearestLine([10], null)).toBe(-1);
});
