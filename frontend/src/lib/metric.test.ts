import { expect, it } from 'vitest';
import { primaryMetric, primaryNames, sharedLabel } from './metric';

it('names the metric of a task, and of none', () => {
  expect(primaryMetric('detection')).toMatchObject({ key: 'map', label: 'mAP', perClass: 'AP' });
  expect(primaryMetric(null).key).toBe('miou');
  expect(primaryNames('val').split(',')).toEqual(expect.arrayContaining(['val/miou', 'val/map']));
});

it('heads a column by the metric of its rows, and says so when they have several', () => {
  expect(sharedLabel(['detection', null, 'detection'])).toBe('mAP');
  expect(sharedLabel(['detection', 'semantic_segmentation'])).toBe('Score');
  expect(sharedLabel([])).toBe('mIoU');
});
