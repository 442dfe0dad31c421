import { Select } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { recipeQuery, recipesQuery } from '@/api/recipes';
import { recipeGroups } from './recipe-groups';

/** Start from a recipe: its job file goes into the editor, with the comments that say which paths to set. */
export function Recipes({ onPick }: { onPick: (text: string) => void }) {
  const recipes = useQuery(recipesQuery());
  const queries = useQueryClient();
  return (
    <Select
      aria-label="Start from a recipe"
      placeholder="Recipes"
      searchable
      value={null}
      data={recipeGroups(recipes.data?.recipes ?? [])}
      nothingFoundMessage="No such recipe"
      maxDropdownHeight={420}
      comboboxProps={{ width: 420, position: 'bottom-start' }}
      onChange={(name) => {
        if (name !== null) void queries.fetchQuery(recipeQuery(name)).then(({ text }) => onPick(text));
      }}
    />
  );
}
