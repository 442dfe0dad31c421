/** Reading and changing jobs: one query factory a read model, one function a use case. */
import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';
import { primaryNames } from '@/lib/metric';
import type { XAxis } from '@/lib/url';

const at = (job: string) => ({ path: { job } });

const PAGE = 200;
const MOST_PAGES = 5;

/** The newest thousand: filters, comparisons and the palette look over all of them, not over a page. */
async function allJobs() {
  const page = (cursor?: string) => body(api.GET('/api/v1/jobs', { params: { query: { limit: PAGE, cursor } } }));
  const all = await page();
  for (let pages = 1; all.next_cursor && pages < MOST_PAGES; pages += 1) {
    const more = await page(all.next_cursor);
    all.items.push(...more.items);
    all.next_cursor = more.next_cursor;
  }
  return all;
}

export const jobsQuery = () =>
  queryOptions({
    queryKey: keys.jobs.list(),
    queryFn: allJobs,
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

/** At which iterations and of which images there are pictures: small, however long the run. */
export const panelIndexQuery = (job: string) =>
  queryOptions({
    queryKey: keys.jobs.panelIndex(job),
    queryFn: () => body(api.GET('/api/v1/jobs/{job}/panels/index', { params: at(job) })),
  });

/** The pictures of one evaluation: all of one image, or some kinds of all images. */
export const panelsQuery = (job: string, iteration: number, which: { image?: number; kind?: string[] }) =>
  queryOptions({
    queryKey: [...keys.jobs.panels(job, iteration), which] as const,
    queryFn: async () =>
      (await body(api.GET('/api/v1/jobs/{job}/panels', { params: { ...at(job), query: { iteration, ...which } } }))).items,
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
      body(api.GET('/api/v1/compare', { params: { query: { jobs: jobs.join(','), x, names: primaryNames('val') } } })),
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
