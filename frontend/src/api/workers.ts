import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';

export const workersQuery = () =>
  queryOptions({
    queryKey: keys.workers.all,
    queryFn: () => body(api.GET('/api/v1/workers')),
    // Workers beat every few seconds; their figures are not on the stream.
    refetchInterval: 5_000,
  });
