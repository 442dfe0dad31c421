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
    values: (row.values as unknown[] | undefined) ?? [],
  }));
  const unlike = rows.flatMap((row) => /^(distill\.\d+\.)method$/.exec(row.path)?.[1] ?? []);
  return rows.filter(
    (row) => row.path !== 'distill' && (row.path.endsWith('.method') || !unlike.some((term) => row.path.startsWith(term))),
  );
}
