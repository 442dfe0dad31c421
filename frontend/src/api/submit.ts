/** Submitting a spec as the text that the user sees: the server reads YAML strictly, so it must get the same text. */
import { queryOptions } from '@tanstack/react-query';
import { api, body } from './client';
import { keys } from './keys';
import type { components } from './schema';

export type SubmitAnswer = components['schemas']['SubmitAnswer'];

const send = (yaml: string, query: { dry_run: boolean }, key?: string, signal?: AbortSignal) =>
  body<SubmitAnswer>(
    api.POST('/api/v1/jobs', {
      params: { query, header: key ? { 'idempotency-key': key } : {} },
      headers: { 'Content-Type': 'application/yaml' },
      body: yaml as never,
      bodySerializer: (text: unknown) => text as string,
      signal,
    }),
  );

export const dryRun = (yaml: string, signal?: AbortSignal) => send(yaml, { dry_run: true }, undefined, signal);
export const submitJob = (yaml: string, key: string) => send(yaml, { dry_run: false }, key);

/** The spec of a job as it was submitted, to start another run from. */
export const submittedQuery = (job: string) =>
  queryOptions({
    queryKey: [...keys.jobs.spec(job), 'submitted'],
    queryFn: () =>
      body(api.GET('/api/v1/jobs/{job}/spec', { params: { path: { job }, query: { form: 'submitted' as const } } })),
    staleTime: Infinity,
  });
