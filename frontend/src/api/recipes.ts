/** Jobs for the rows of the papers' tables. Fixed while the server runs. */
import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';
import type { components } from './schema';

export type Recipe = components['schemas']['Recipe'];

export const recipesQuery = () =>
  queryOptions({
    queryKey: keys.recipes,
    queryFn: () => body(api.GET('/api/v1/recipes')),
    staleTime: Infinity,
  });

export const recipeQuery = (name: string) =>
  queryOptions({
    queryKey: [...keys.recipes, name],
    queryFn: () => body(api.GET('/api/v1/recipes/{name}', { params: { path: { name } } })),
    staleTime: Infinity,
  });
