import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useDebouncedValue } from '@mantine/hooks';
import { ApiError } from '@/api/client';
import { dryRun, type SubmitAnswer } from '@/api/submit';
import type { ErrorInfo } from '@/api/types';

export interface Check {
  /** The last answer that resolved: its values stay while the next text is checked. */
  answer: SubmitAnswer | undefined;
  problems: ErrorInfo[];
  /** What is no problem of the spec: the server is away, or asks for a key. */
  failure: Error | null;
  /** Whether the answer belongs to the text that is shown. */
  settled: boolean;
}

const NONE: ErrorInfo[] = [];

/** Asks the server what the text would become, a moment after the last key. */
export function useDryRun(text: string): Check {
  const [asked] = useDebouncedValue(text, 400);
  const query = useQuery({
    queryKey: ['dry-run', asked],
    // A refusal is an answer, and the one before it must not take its place.
    queryFn: async ({ signal }): Promise<{ answer?: SubmitAnswer; problems: ErrorInfo[] }> => {
      try {
        return { answer: await dryRun(asked, signal), problems: NONE };
      } catch (error) {
        if (error instanceof ApiError && [409, 422].includes(error.status)) return { problems: problemsOf(error) };
        throw error;
      }
    },
    enabled: asked.trim() !== '',
    placeholderData: keepPreviousData,
    // A job or dataset may have come since.
    staleTime: 10_000,
    gcTime: 60_000,
  });
  const settled = asked === text && !query.isPlaceholderData && !query.isFetching;
  return { answer: query.data?.answer, problems: query.data?.problems ?? NONE, failure: query.error, settled };
}

/** All problems of a refusal; a refusal without a list is its own problem. */
export function problemsOf(error: ApiError): ErrorInfo[] {
  if (error.problems.length) return error.problems;
  return [{ code: error.code, message: error.message, hint: error.hint, field: null, value: null }];
}
