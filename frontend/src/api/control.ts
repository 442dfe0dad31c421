import type { JobSummary } from './types';

/** `camvid@3f9c1e` and `camvid` may be one: a job learns its data's version when it starts. */
const sameData = (a: string | null | undefined, b: string | null | undefined): boolean =>
  a === b || (a != null && b != null && (!a.includes('@') || !b.includes('@')) && a.split('@')[0] === b.split('@')[0]);

/** The run to hold a distilled one against: the newest finished student alone with the same student, data and number
 * of iterations, of the same seed where there is one. */
export function controlRun(job: JobSummary, jobs: readonly JobSummary[]): JobSummary | undefined {
  if (!job.methods.length) return undefined;
  const alone = jobs
    .filter(
      (item) =>
        item.kind === 'distill' &&
        item.state === 'succeeded' &&
        !item.methods.length &&
        item.student === job.student &&
        sameData(item.dataset, job.dataset) &&
        (!job.progress.iterations || item.progress.iterations === job.progress.iterations),
    )
    .sort((a, b) => b.created_at.localeCompare(a.created_at));
  return alone.find((item) => item.seed === job.seed) ?? alone[0];
}
