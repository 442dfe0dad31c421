/** One typed client over the server's OpenAPI schema, and the one error that every failed call becomes. */
import createClient from 'openapi-fetch';
import type { ErrorInfo } from './types';
import type { paths } from './schema';

const KEY_NAME = 'acamkd.api-key';

/** The key of a server that asks for one; a loopback server does not. */
export const apiKey = {
  get: (): string | null => localStorage.getItem(KEY_NAME),
  set: (key: string | null) =>
    key ? localStorage.setItem(KEY_NAME, key) : localStorage.removeItem(KEY_NAME),
  headers: (): Record<string, string> => {
    const key = apiKey.get();
    return key ? { Authorization: `Bearer ${key}` } : {};
  },
};

/** A refused or failed call, in the words of the server (`Problem`), or of the network. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null = null,
    readonly problems: ErrorInfo[] = [],
  ) {
    super(message);
    this.name = 'ApiError';
  }

  static from(status: number, body: unknown): ApiError {
    const problem = (typeof body === 'object' && body !== null ? body : {}) as Partial<ErrorInfo> & {
      problems?: ErrorInfo[];
    };
    return new ApiError(
      status,
      problem.code ?? `http.${status}`,
      problem.message ?? `the server answered ${status}`,
      problem.hint ?? null,
      problem.problems ?? [],
    );
  }

  static unreachable(): ApiError {
    return new ApiError(0, 'network.unreachable', 'the server does not answer', 'is `acamkd up` running?');
  }
}

const keyedFetch: typeof fetch = async (input, init) => {
  const request = new Request(input, init);
  for (const [name, value] of Object.entries(apiKey.headers())) request.headers.set(name, value);
  try {
    return await fetch(request);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw ApiError.unreachable();
  }
};

export const api = createClient<paths>({ baseUrl: location.origin, fetch: keyedFetch });

/** The body of an answer, or an `ApiError`. */
export async function body<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw ApiError.from(response.status, error);
  return data as T;
}

/** Where a file is downloaded; `inline` for pictures. */
export const downloadPath = (artifact: string, inline = false): string =>
  `/api/v1/artifacts/${encodeURIComponent(artifact)}/download${inline ? '?inline=1' : ''}`;

/** The bytes of a file, with the key that an `<img>` or a link cannot send. */
export async function download(path: string): Promise<Blob> {
  const response = await keyedFetch(path);
  if (!response.ok) throw ApiError.from(response.status, await response.json().catch(() => null));
  return response.blob();
}
