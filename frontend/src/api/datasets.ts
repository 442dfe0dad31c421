/** Datasets: registered by path, or sent as a zip; both are inspected by a job of their own. */
import { queryOptions } from '@tanstack/react-query';
import { api, ApiError, apiKey, body } from './client';
import { keys } from './keys';
import type { components } from './schema';

export type DatasetInfo = components['schemas']['DatasetInfo'];

/** An inspection takes seconds: while one runs, ask often. */
const pace = (busy: boolean): number => (busy ? 2_000 : 30_000);

export const datasetsQuery = () =>
  queryOptions({
    queryKey: keys.datasets.all,
    queryFn: () => body(api.GET('/api/v1/datasets', { params: { query: { limit: 200 } } })),
    refetchInterval: (query) => pace(query.state.data?.items.some((item) => item.state === 'inspecting') ?? false),
  });

export const datasetQuery = (name: string) =>
  queryOptions({
    queryKey: keys.datasets.of(name),
    queryFn: () => body(api.GET('/api/v1/datasets/{name}', { params: { path: { name } } })),
    refetchInterval: (query) => pace(query.state.data?.state === 'inspecting'),
  });

type Registration = components['schemas']['DatasetCreate'];
export type DatasetFormat = Registration['format'];
export type DatasetTask = NonNullable<Registration['task']>;

export const registerDataset = (given: { name: string; path: string; format: DatasetFormat; task: DatasetTask | null }) =>
  body(api.POST('/api/v1/datasets', { body: { ...given, options: {} } }));

export const inspectDataset = (name: string) =>
  body(api.POST('/api/v1/datasets/{name}/inspect', { params: { path: { name } } }));

/** Sends a zip as the request's body. XMLHttpRequest, because fetch does not report how much has been sent. */
export function uploadDataset(
  name: string,
  file: File,
  onSent: (sent: number, total: number) => void,
  signal: AbortSignal,
): Promise<DatasetInfo> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', `/api/v1/datasets/upload?name=${encodeURIComponent(name)}`);
    request.setRequestHeader('Content-Type', 'application/zip');
    for (const [header, value] of Object.entries(apiKey.headers())) request.setRequestHeader(header, value);
    request.upload.onprogress = (event) => onSent(event.loaded, event.lengthComputable ? event.total : file.size);
    request.onload = () => {
      const answer: unknown = parse(request.responseText);
      if (request.status >= 200 && request.status < 300) resolve(answer as DatasetInfo);
      else reject(ApiError.from(request.status, answer));
    };
    request.onerror = () => reject(ApiError.unreachable());
    request.onabort = () => reject(new DOMException('the upload was stopped', 'AbortError'));
    signal.addEventListener('abort', () => request.abort());
    request.send(file);
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
