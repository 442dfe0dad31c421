/** What the Compare page derives: groups of runs that differ only in their seed, and differences to the baseline. */
import type { CompareAnswer, CompareJob } from '@/api/types';
import type { Line } from '@/lib/series';

export interface Group {
  label: string;
  methods: string[];
  /** Positions in `answer.jobs`. */
  members: number[];
}

/** Jobs whose specs differ from each other in nothing but the seed (and words about the job) are one group. */
export function groupBySeed(answer: CompareAnswer): Group[] {
  const words = /^(seed|name|notes|tags)(\.|$)/;
  const telling = answer.differing.filter((row) => !words.test(String(row.path)));
  const groups = new Map<string, Group>();
  answer.jobs.forEach(({ job }, index) => {
    const key = JSON.stringify([job.methods, ...telling.map((row) => (row.values as unknown[] | undefined)?.[index] ?? null)]);
    const group = groups.get(key) ?? { label: job.name, methods: job.methods, members: [] };
    group.members.push(index);
    groups.set(key, group);
  });
  return [...groups.values()].map((group) =>
    group.members.length === 1
      ? group
      : { ...group, label: `${group.methods.join(' + ') || 'student alone'} (${group.members.length} seeds)` },
  );
}

/** A metric of every job of a group, as far as it is known. */
export const values = (answer: CompareAnswer, group: Group, name: string): number[] =>
  group.members
    .map((index) => answer.jobs[index]?.job.metrics[name])
    .filter((value): value is number => value !== undefined);

export function lineOf(answer: CompareAnswer, index: number, name: string): Line | undefined {
  const id = answer.jobs[index]?.job.id;
  return answer.series.find((item) => item.job === id)?.series.find((line) => line.name === name);
}

/** Classes of the baseline with every run's difference to it, in points. */
export function classDifferences(jobs: readonly CompareJob[]) {
  const [baseline, ...others] = jobs;
  return Object.entries(baseline?.per_class ?? {}).map(([name, score]) => ({
    name,
    baseline: score,
    differences: others.map((other) => {
      const own = other.per_class?.[name];
      return own == null || score == null ? null : own - score;
    }),
  }));
}

interface Difference {
  path: string;
  values: unknown[];
}

/** The differing fields that say something: where terms are of different methods, their options are not compared,
 * because every option of the one would stand against nothing of the other. */
export function tellingDifferences(answer: CompareAnswer): Difference[] {
  const rows = answer.differing.map((row) => ({
    path: String(row.path),
    values: ((row.values as unknown[] | undefined) ?? []).map((item) => (item === null && String(row.path).endsWith('.method') ? 'none' : item)),
  }));
  const unlike = rows.flatMap((row) => /^(distill\.\d+\.)method$/.exec(row.path)?.[1] ?? []);
  const telling = rows.filter(
    (row) => row.path !== 'distill' && (row.path.endsWith('.method') || !unlike.some((term) => row.path.startsWith(term))),
  );
  const folded = foldAbsent(telling, (part, run) => (part === 'teacher' ? answer.jobs[run]?.job.teacher : undefined));
  return folded.sort((a, b) => weight(a.path) - weight(b.path));
}

const FIRST = ['distill', 'teacher', 'student', 'dataset', 'schedule', 'batch', 'optimizer'];
const LAST = ['evaluation', 'checkpoint', 'exports', 'resources', 'seed'];

/** What changes the question stands before what changes the training, and that before what only watches it. */
function weight(path: string): number {
  const part = path.split('.')[0]!;
  const first = FIRST.indexOf(part);
  return first >= 0 ? first : FIRST.length + 1 + LAST.indexOf(part);
}

/** A part that some runs do not have at all (a student alone has no teacher) is one row, not one for each field. */
function foldAbsent(
  rows: Difference[],
  nameOf: (part: string, run: number) => string | null | undefined,
): Difference[] {
  const part = (row: Difference) => row.path.split('.')[0]!;
  const folded = new Set<string>();
  return rows.flatMap((row) => {
    const mine = rows.filter((other) => part(other) === part(row));
    const absent = row.values.map((_, run) => mine.every((other) => other.values[run] == null));
    const present = row.values.flatMap((_, run) => (absent[run] ? [] : [run]));
    const alike = mine.every((other) => present.every((run) => same(other.values[run], other.values[present[0]!])));
    if (mine.length < 3 || present.length === row.values.length || !alike) return [row];
    if (folded.has(part(row))) return [];
    folded.add(part(row));
    const name = (run: number) => nameOf(part(row), run) ?? `${mine.length} fields`;
    return [{ path: part(row), values: absent.map((gone, run) => (gone ? 'none' : name(run))) }];
  });
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Iterations at which any of the runs was evaluated, in order. */
export const evaluationsOf = (runs: readonly (readonly number[])[]): number[] => [...new Set(runs.flat())].sort((a, b) => a - b);
