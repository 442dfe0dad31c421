/** Where a new run starts from: another run's spec, an example, a dataset, or what was being written. */
import { useQuery } from '@tanstack/react-query';
import { stringify } from 'yaml';
import { submittedQuery } from '@/api/submit';
import type { JobSummary } from '@/api/types';
import { EXAMPLES, fillTeacher } from './examples';
import { without } from './form-schema';
import type { Spec } from './yaml-spec';

const DRAFT = 'acamkd.draft';

export const draft = {
  get: (): string | null => sessionStorage.getItem(DRAFT),
  set: (text: string) => sessionStorage.setItem(DRAFT, text),
  clear: () => sessionStorage.removeItem(DRAFT),
};

/** A spec as YAML, without the name that only one job can have. */
export function rerunText(spec: Spec): string {
  return stringify(without(spec, 'name'), { lineWidth: 110, flowCollectionPadding: false });
}

/** The newest finished run that was trained alone: a teacher for the example. */
export const newestTeacher = (jobs: readonly JobSummary[]): string | undefined =>
  jobs
    .filter((job) => job.kind === 'distill' && job.state === 'succeeded')
    .sort((a, b) => a.methods.length - b.methods.length || b.created_at.localeCompare(a.created_at))[0]?.name;

export const exampleText = (id: string | undefined, jobs: readonly JobSummary[]): string =>
  fillTeacher((EXAMPLES.find((example) => example.id === id) ?? EXAMPLES[0]!).text, newestTeacher(jobs));

/** The first text, once what it needs is there. */
export function useStart(from: string | undefined, example: string | undefined, dataset: string | undefined, jobs: readonly JobSummary[] | undefined) {
  const source = useQuery({ ...submittedQuery(from ?? ''), enabled: from !== undefined });
  if (from !== undefined) {
    return { text: source.data ? rerunText(source.data.spec) : null, error: source.error };
  }
  if (example !== undefined) return { text: jobs ? exampleText(example, jobs) : null, error: null };
  const first = dataset === undefined ? (draft.get() ?? EXAMPLES[0]!.text) : EXAMPLES[0]!.text;
  const text = dataset === undefined ? first : first.replace(/^dataset:.*$/m, `dataset: dataset:${dataset}`);
  return { text, error: null };
}
