import { expect, it } from 'vitest';
import * as format from './format';

it('uses a true minus and never signs a zero', () => {
  expect(format.signed(-0.42)).toBe('−0.4');
  expect(format.signed(1.25, 2)).toBe('+1.25');
  expect(format.signed(0.04)).toBe('0.0');
  expect(format.signed(-0.04)).toBe('0.0');
  expect(format.signed(null)).toBe('–');
  expect(format.points(Number.NaN)).toBe('–');
});

it('prints sizes as the field does', () => {
  expect(format.parameters(3_233_171)).toBe('3.23 M');
  expect(format.macs(128.9e9)).toBe('128.9 G MACs');
  expect(format.bytes(8_131_072)).toBe('8.1 MB');
  expect(format.bytes(999)).toBe('999 B');
  expect(format.milliseconds(12.44)).toBe('12.4 ms');
  expect(format.count(40000)).toBe('40,000');
});

it('prints durations', () => {
  expect([0, 59.4, 59.6, 380, 3600 * 3 + 240, 86400 * 2 + 3 * 3600].map(format.duration)).toEqual([
    '0 s', '59 s', '1 m 00 s', '6 m 20 s', '3 h 04 m', '2 d 3 h',
  ]);
  expect([1, 22, 300].map(format.ago)).toEqual(['now', '22 s ago', '5 m ago']);
});

it('lets the digits follow the noise', () => {
  // Sample deviation of 60.7, 61.3, 61.9 is 0.6.
  expect(format.overSeeds([60.7, 61.3, 61.9])).toBe('61.3 ± 0.6 (3 seeds)');
  // Deviation 4.24: no decimals.
  expect(format.overSeeds([58, 64])).toBe('61 ± 4 (2 seeds)');
  expect(format.overSeeds([61.31, 61.33])).toBe('61.32 ± 0.01 (2 seeds)');
  expect(format.overSeeds([61.3])).toBe('61.3 (1 seed)');
  expect(format.overSeeds([])).toBe('–');
});

it('keeps small and large numbers readable', () => {
  expect(format.compact(0.00002)).toBe('2.00e−5');
  expect(format.compact(0.4509)).toBe('0.4509');
  expect(format.compact(12.3456)).toBe('12.346');
});
