/** What can be combined, and the schema that the form is drawn from. Both are fixed while the server runs. */
import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';

export const catalogQuery = () =>
  queryOptions({
    queryKey: keys.catalog,
    queryFn: () => body(api.GET('/api/v1/catalog')),
    staleTime: Infinity,
  });

export const jobSchemaQuery = () =>
  queryOptions({
    queryKey: keys.schema,
    queryFn: async () => (await body(api.GET('/api/v1/schema/job'))) as Record<string, unknown>,
    staleTime: Infinity,
  });
