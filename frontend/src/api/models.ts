import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';

export const modelsQuery = () =>
  queryOptions({
    queryKey: keys.models.all,
    queryFn: () => body(api.GET('/api/v1/models', { params: { query: { limit: 200 } } })),
    refetchInterval: 30_000,
  });

export const aliases = {
  set: (name: string, alias: string, version: number) =>
    body(api.PUT('/api/v1/models/{name}/aliases/{alias}', { params: { path: { name, alias } }, body: { version } })),
  remove: (name: string, alias: string) =>
    body(api.DELETE('/api/v1/models/{name}/aliases/{alias}', { params: { path: { name, alias } } })),
};
