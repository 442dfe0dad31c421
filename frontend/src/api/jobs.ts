/** Reading and changing jobs: one query factory a read model, one function a use case. */
import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';
import type { XAxis } from '@/lib/url';

const at = (job: string) => ({ path: { job } });

export const jobsQuery = () =>
  queryOptions({
    queryKey: keys.jobs.list(),
    queryFn: () => body(api.GET('/api/v1/jobs', { params: { query: { limit: 200 } } })),
    // The stream says what changed; this is the net below it.
    refetchInterval: 30_000,
  });

export const jobQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.detail(job),
    queryFn: () => body(api.GET('/api/v1/jobs/{job}', { params: at(job) })),
    refetchInterval: 30_000,
  });

export const metricsQuery = (job: string, names: string, x: XAxis = 'iteration') =>
  queryOptions({
    queryKey: keys.jobs.metricsOf(job, names, x),
    queryFn: () =>
      body(api.GET('/api/v1/jobs/{job}/metrics', { params: { ...at(job), query: { names, x, points: 1000 } } })),
    placeholderData: (previous) => previous,
  });

/** The points after an iteration, to be joined to what is there. */
export const metricsAfter = (job: string, names: string, after: number) =>
  body(api.GET('/api/v1/jobs/{job}/metrics', { params: { ...at(job), query: { names, after, points: 1000 } } }));

export const logsQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.logs(job),
    queryFn: () => body(api.GET('/api/v1/jobs/{job}/logs', { params: { ...at(job), query: { tail: 2000 } } })),
  });

export const logsAfter = (job: string, after: number) =>
  body(api.GET('/api/v1/jobs/{job}/logs', { params: { ...at(job), query: { after } } }));

export const panelsQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.panels(job),
    queryFn: async () => (await body(api.GET('/api/v1/jobs/{job}/panels', { params: at(job) }))).items,
  });

export const specQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.spec(job),
    queryFn: () =>
      body(api.GET('/api/v1/jobs/{job}/spec', { params: { ...at(job), query: { form: 'resolved' as const } } })),
  });

export const artifactsQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.artifacts(job),
    queryFn: async () => (await body(api.GET('/api/v1/jobs/{job}/artifacts', { params: at(job) }))).items,
  });

export const attemptsQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.attempts(job),
    queryFn: async () => (await body(api.GET('/api/v1/jobs/{job}/attempts', { params: at(job) }))).items,
  });

export const compareQuery = (jobs: readonly string[], x: XAxis) =>
  queryOptions({
    queryKey: keys.compare(jobs, x),
    queryFn: () =>
      body(api.GET('/api/v1/compare', { params: { query: { jobs: jobs.join(','), x, names: 'val/miou' } } })),
    enabled: jobs.length > 0,
    placeholderData: (previous) => previous,
    refetchInterval: 30_000,
  });

export const actions = {
  pause: (job: string) => body(api.POST('/api/v1/jobs/{job}/pause', { params: at(job) })),
  resume: (job: string) => body(api.POST('/api/v1/jobs/{job}/resume', { params: at(job) })),
  cancel: (job: string) => body(api.POST('/api/v1/jobs/{job}/cancel', { params: at(job) })),
  clone: (job: string, set: Record<string, unknown> = {}) =>
    body(api.POST('/api/v1/jobs/{job}/clone', { params: at(job), body: { set } })),
  retry: (job: string, set: Record<string, unknown> = {}, fromCheckpoint = false) =>
    body(api.POST('/api/v1/jobs/{job}/retry', { params: at(job), body: { set, from_checkpoint: fromCheckpoint } })),
};
