/** Words that all must be found in a row; `state:failed` and `method:acam` look at one column. */
import type { JobSummary } from '@/api/types';

export function matches(job: JobSummary, query: string): boolean {
  const everything = [
    job.name, job.state, job.reason, job.student, job.teacher, job.dataset,
    ...job.methods, ...job.tags, job.seed === null ? '' : `seed:${job.seed}`,
  ]
    .join(' ')
    .toLowerCase();
  return query
    .toLowerCase()
    .split(/\s+/)
    .filter(Boolean)
    .every((word) => {
      const [column, wanted] = word.split(':', 2);
      if (wanted && column === 'state') return job.state.startsWith(wanted);
      if (wanted && column === 'method') return job.methods.some((method) => method.startsWith(wanted));
      if (wanted && column === 'tag') return job.tags.includes(wanted);
      return everything.includes(word);
    });
}

/** Running first, then what will run, then what ended, newest first within each. */
export function inOrder(jobs: readonly JobSummary[]): JobSummary[] {
  const rank: Record<string, number> = { running: 0, paused: 1, queued: 2, waiting: 2 };
  return [...jobs].sort(
    (a, b) => (rank[a.state] ?? 3) - (rank[b.state] ?? 3) || b.created_at.localeCompare(a.created_at),
  );
}
