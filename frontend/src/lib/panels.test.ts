import { expect, it } from 'vitest';
import { panelSet, withPlace, type Panel } from './panels';

const panel = (artifact: string, iteration: number, kind: string, extra: Partial<Panel> = {}): Panel => ({
  artifact, iteration, kind, image: 3, index: 0, caption: kind, attempt: 1, ...extra,
});

it('finds pictures: those drawn once stand for all, the evaluation before fills gaps, the later attempt counts', () => {
  const set = panelSet(
    [panel('truth', 100, 'truth')],
    [panel('p100', 100, 'prediction'), panel('e100', 100, 'error')],
    [
      panel('p200', 200, 'prediction', { attempt: 2 }),
      panel('p200-lost', 200, 'prediction'),
      panel('m10', 200, 'mask_spatial', { index: 10, caption: 'mask 10' }),
      panel('m2', 200, 'mask_spatial', { index: 2, caption: 'mask 2' }),
    ],
  );
  expect(set.find(3, 'truth')?.artifact).toBe('truth');
  expect(set.find(3, 'prediction')?.artifact).toBe('p200');
  expect(set.find(3, 'error')?.artifact).toBe('e100');
  expect(set.find(4, 'error')).toBeUndefined();
  expect(set.masks(3).map((item) => item.artifact)).toEqual(['m2', 'm10']);
});

it('keeps the index of places up to date, and the same object when there is nothing new', () => {
  const index = { iterations: [100, 300], images: [3] };
  expect(withPlace(index, panel('x', 200, 'prediction'))).toEqual({ iterations: [100, 200, 300], images: [3] });
  expect(withPlace(index, panel('x', 100, 'prediction', { image: 1 }))).toEqual({ iterations: [100, 300], images: [1, 3] });
  expect(withPlace(index, panel('x', 300, 'error'))).toBe(index);
  // the first evaluation is one when there is something to see of the student
  expect(withPlace(index, panel('x', 50, 'truth'))).toBe(index);
});
