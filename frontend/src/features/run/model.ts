/** What the run page derives from its read models: pure functions. */
import type { AlarmPayload, EvaluationPayload, JobDetail, ProfilePayload } from '@/api/types';

/** Evaluations of the student on val, one an iteration: after a rewind the later one counts. */
export function studentEvaluations(job: JobDetail): EvaluationPayload[] {
  const byIteration = new Map<number, EvaluationPayload>();
  for (const item of (job.evaluations ?? []) as unknown as EvaluationPayload[]) {
    if (item.role === 'student' && item.split === 'val') byIteration.set(item.iteration, item);
  }
  return [...byIteration.values()].sort((a, b) => a.iteration - b.iteration);
}

export const teacherEvaluation = (job: JobDetail): EvaluationPayload | undefined =>
  ((job.evaluations ?? []) as unknown as EvaluationPayload[]).findLast(
    (item) => item.role === 'teacher' && item.split === 'val',
  );

export const profileOf = (job: JobDetail, role: 'teacher' | 'student'): ProfilePayload | undefined =>
  (job.profile as Record<string, ProfilePayload> | undefined)?.[role];

export const alarmsOf = (job: JobDetail): AlarmPayload[] => (job.alarm_list ?? []) as unknown as AlarmPayload[];

/** Names of the classes in the order of the dataset. */
export function classNames(job: JobDetail): string[] {
  const classes = (job.dataset_info as { classes?: unknown[] } | undefined)?.classes ?? [];
  return classes.map((item) => (typeof item === 'string' ? item : String((item as { name?: string }).name ?? '')));
}

/** CSS colour of every class: the dataset's palette. */
export function classColors(job: JobDetail): Record<string, string> {
  const info = job.dataset_info as { classes?: unknown[]; palette?: number[][] } | undefined;
  const names = classNames(job);
  const colors: Record<string, string> = {};
  names.forEach((name, index) => {
    const own = (info?.classes?.[index] as { color?: number[] } | null)?.color;
    const color = info?.palette?.[index] ?? own;
    if (color) colors[name] = `rgb(${color.slice(0, 3).join(', ')})`;
  });
  return colors;
}

export interface ClassRow {
  name: string;
  student: number | null;
  teacher: number | null;
  gap: number | null;
  /** Change since the evaluation before. */
  change: number | null;
}

/** Classes by gap to the teacher, widest first; without a teacher by score, worst first. */
export function classRows(
  names: readonly string[],
  now: EvaluationPayload | undefined,
  before: EvaluationPayload | undefined,
  teacher: EvaluationPayload | undefined,
): ClassRow[] {
  const all = names.length ? names : Object.keys(now?.per_class ?? teacher?.per_class ?? {});
  const minus = (a: number | null, b: number | null) => (a === null || b === null ? null : a - b);
  const rows = all.map((name) => {
    const student = now?.per_class[name] ?? null;
    const ofTeacher = teacher?.per_class[name] ?? null;
    return {
      name,
      student,
      teacher: ofTeacher,
      gap: minus(student, ofTeacher),
      change: minus(student, before?.per_class[name] ?? null),
    };
  });
  const key = (row: ClassRow) => row.gap ?? row.student ?? Number.POSITIVE_INFINITY;
  return rows.sort((a, b) => key(a) - key(b));
}

/** Mean effective rank of the mask sets and how many masks a set has, from the metrics' names; spatial sets first. */
export function maskSets(names: readonly string[]): { rank: string; label: string; masks: number }[] {
  return names
    .filter((name) => /^mask\/.+\/effective_rank$/.test(name))
    .map((rank) => {
      const set = rank.slice(0, -'/effective_rank'.length);
      const masks = names.filter((name) => name.startsWith(`${set}/m`) && /\/m\d+\/mean$/.test(name)).length;
      return { rank, label: set.slice('mask/'.length).replace('/', ' '), masks };
    })
    .sort((a, b) => Number(a.label.endsWith('channel')) - Number(b.label.endsWith('channel')));
}

/** The first evaluation still to come: "first evaluation at 200, in 40 s". */
export function nextEvaluation(every: number | null, job: JobDetail): { at: number; seconds: number | null } | null {
  if (!every) return null;
  const { iteration, iterations, iterations_per_second: rate } = job.progress;
  const at = Math.min(iterations || Infinity, (Math.floor(iteration / every) + 1) * every);
  return Number.isFinite(at) ? { at, seconds: rate ? (at - iteration) / rate : null } : null;
}
