import { useQuery } from '@tanstack/react-query';
import { specQuery } from '@/api/jobs';

/** Iterations between evaluations, from the resolved spec. */
export function useEvery(job: string): number | null {
  const spec = useQuery(specQuery(job)).data?.spec as { evaluation?: { every?: number | null } } | undefined;
  return spec?.evaluation?.every ?? null;
}

/** Iterations of the whole run, where the spec gives them; a run given in epochs knows them once it has begun. */
export function useLength(job: string): number | null {
  const spec = useQuery(specQuery(job)).data?.spec as { schedule?: { iterations?: number | null } } | undefined;
  return spec?.schedule?.iterations ?? null;
}
