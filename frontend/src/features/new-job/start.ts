/** Where a new run starts from: another run's spec, a recipe, an example, a dataset, or what was being written. */
import { useQuery } from '@tanstack/react-query';
import { stringify } from 'yaml';
import { recipeQuery } from '@/api/recipes';
import { submittedQuery } from '@/api/submit';
import type { JobSummary } from '@/api/types';
import type { NewSearch } from '@/lib/url';
import { EXAMPLES, exampleText } from './examples';
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

/** The first text, once what it needs is there. */
export function useStart({ from, example, dataset, recipe }: NewSearch, jobs: readonly JobSummary[] | undefined) {
  const source = useQuery({ ...submittedQuery(from ?? ''), enabled: from !== undefined });
  const row = useQuery({ ...recipeQuery(recipe ?? ''), enabled: recipe !== undefined });
  if (from !== undefined) {
    return { text: source.data ? rerunText(source.data.spec) : null, error: source.error };
  }
  if (recipe !== undefined) {
    return { text: row.data?.text ?? null, error: row.error };
  }
  if (dataset !== undefined) {
    return { text: EXAMPLES[0]!.text.replace(/^#.*\ndataset:.*$/m, `dataset: dataset:${dataset}`), error: null };
  }
  const written = example === undefined ? draft.get() : null;
  return { text: written ?? (jobs ? exampleText(example, jobs) : null), error: null };
}
