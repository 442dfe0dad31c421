import type { Recipe } from '@/api/recipes';

/** Recipes as options, by dataset: what a reader of the papers looks for first. */
export function recipeGroups(recipes: readonly Recipe[]) {
  const groups = new Map<string, { value: string; label: string }[]>();
  for (const { name, dataset } of recipes) {
    groups.set(dataset, [...(groups.get(dataset) ?? []), { value: name, label: name }]);
  }
  return [...groups].map(([group, items]) => ({ group, items }));
}
