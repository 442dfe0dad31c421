import { expect, it } from 'vitest';
import { indexPanels, type Panel } from './panels';

const panel = (artifact: string, iteration: number, kind: string, extra: Partial<Panel> = {}): Panel => ({
  artifact, iteration, kind, image: 3, index: 0, caption: kind, attempt: 1, ...extra,
});

it('finds pictures, uses the first truth for all evaluations, and prefers the later attempt', () => {
  const index = indexPanels([
    panel('truth', 100, 'truth'),
    panel('p100', 100, 'prediction'),
    panel('p200-lost', 200, 'prediction'),
    panel('p200', 200, 'prediction', { attempt: 2 }),
    panel('m10', 200, 'mask_spatial', { index: 10, caption: 'mask 10' }),
    panel('m2', 200, 'mask_spatial', { index: 2, caption: 'mask 2' }),
  ]);
  expect(index.iterations).toEqual([100, 200]);
  expect(index.find(200, 3, 'truth')?.artifact).toBe('truth');
  expect(index.find(200, 3, 'prediction')?.artifact).toBe('p200');
  expect(index.find(100, 3, 'error')).toBeUndefined();
  expect(index.masks(200, 3).map((item) => item.artifact)).toEqual(['m2', 'm10']);
});
