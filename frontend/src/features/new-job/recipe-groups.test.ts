import { expect, test } from 'vitest';
import type { Recipe } from '@/api/recipes';
import { recipeGroups } from './recipe-groups';

const recipe = (name: string, dataset: string): Recipe => ({
  name, dataset, group: '', task: 'detection', student: '', method: 'acam', source: '', status: 'not_reproduced', files: [],
  stated: [], chosen: [], deviations: [],
});

test('recipes are grouped by dataset, in their order', () => {
  const groups = recipeGroups([recipe('coco-a', 'COCO'), recipe('voc-a', 'VOC'), recipe('coco-b', 'COCO')]);
  expect(groups.map(({ group, items }) => [group, items.map(({ value }) => value)])).toEqual([
    ['COCO', ['coco-a', 'coco-b']],
    ['VOC', ['voc-a']],
  ]);
});
