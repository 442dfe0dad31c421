import { describe, expect, it } from 'vitest';
import {
  align, appendLog, joinSeries, lowerBound, movingAverage, nearest, rewind, ribbon, stack, type Answer, type Line,
} from './series';

const line = (name: string, x: number[], y: (number | null)[], extra: Partial<Line> = {}): Line => ({
  name, x, y, points_total: x.length, ...extra,
});
const answer = (...series: Line[]): Answer => ({ series, names: series.map((item) => item.name) });

describe('joining a live tail', () => {
  it('appends points and keeps other lines', () => {
    const joined = joinSeries(answer(line('a', [10, 20], [1, 2]), line('b', [10], [5])), answer(line('a', [30], [3])));
    expect(joined.series.map(({ name, x, y }) => [name, x, y])).toEqual([['a', [10, 20, 30], [1, 2, 3]], ['b', [10], [5]]]);
  });

  it('after a rewind the later points replace the earlier ones, to the end', () => {
    // Killed at 50, resumed from 20: 30 is written again, 40 and 50 are not yet.
    const before = answer(line('a', [10, 20, 30, 40, 50], [1, 2, 3, 4, 5]));
    const joined = joinSeries(before, answer(line('a', [30], [33])));
    expect(joined.series[0]!.x).toEqual([10, 20, 30]);
    expect(joined.series[0]!.y).toEqual([1, 2, 33]);
  });

  it('repeats nothing when the same tail arrives twice', () => {
    const once = joinSeries(answer(line('a', [10], [1])), answer(line('a', [20], [2])));
    expect(joinSeries(once, answer(line('a', [20], [2])))).toEqual(once);
  });

  it('gives a tail without an envelope its own values as envelope', () => {
    const old = answer(line('a', [10], [5], { low: [1], high: [9] }));
    const { low, high } = joinSeries(old, answer(line('a', [20], [6]))).series[0]!;
    expect([low, high]).toEqual([[1, 6], [9, 6]]);
  });

  it('takes up new names and the attempts of the tail', () => {
    const joined = joinSeries(answer(line('b', [1], [1])), { ...answer(line('a', [1], [2])), attempts: [{ number: 2 }] });
    expect(joined.names).toEqual(['a', 'b']);
    expect(joined.attempts).toEqual([{ number: 2 }]);
  });
});

it('rewinds to an iteration, inclusive', () => {
  expect(rewind(line('a', [10, 20, 30], [1, null, 3]), 20)).toMatchObject({ x: [10, 20], y: [1, null] });
  expect(rewind(line('a', [10, 20], [1, 2]), 5).x).toEqual([]);
});

it('finds positions in ascending lists', () => {
  expect([0, 10, 11, 30, 31].map((wanted) => lowerBound([10, 20, 30], wanted))).toEqual([0, 0, 1, 2, 3]);
  expect([0, 14, 15, 16, 99].map((wanted) => nearest([10, 20, 30], wanted))).toEqual([0, 0, 0, 1, 2]);
  expect(nearest([], 3)).toBe(-1);
});

it('averages over the last finite points, and a NaN stays visible as a gap', () => {
  expect(movingAverage([1, 3, null, 5, 7], 2)).toEqual([1, 2, null, 4, 6]);
});

it('aligns lines of different pace: no point is not the same as not a number', () => {
  const { x, ys } = align([{ x: [10, 30], y: [1, null] }, { x: [20, 30], y: [2, 3] }]);
  expect(x).toEqual([10, 20, 30]);
  expect(ys).toEqual([[1, undefined, null], [undefined, 2, 3]]);
});

it('stacks from the bottom', () => {
  expect(stack([[1, 2, null], [10, undefined, 30]])).toEqual([[1, 2, 0], [11, 2, 30]]);
});

it('draws a ribbon of mean and sample deviation over the x that all seeds have', () => {
  const lines = [line('a', [10, 20], [1, 4]), line('a', [10, 20], [2, 4]), line('a', [10], [3])];
  // Mean 2, sample deviation of 1, 2, 3 is exactly 1.
  expect(ribbon(lines)).toEqual({ x: [10], mean: [2], low: [1], high: [3] });
});

it('follows a log without repeating lines', () => {
  const old = { lines: [{ n: 1 }, { n: 2 }], next: 2 };
  expect(appendLog(old, { lines: [{ n: 2 }, { n: 3 }], next: 3 })).toEqual({ lines: [{ n: 1 }, { n: 2 }, { n: 3 }], next: 3 });
});
