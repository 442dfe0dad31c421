/** What can be chosen by name: registered datasets, models, finished jobs, presets. */
import type { components } from '@/api/schema';
import type { JobSummary } from '@/api/types';
import type { DatasetInfo } from '@/api/datasets';

type Schemas = components['schemas'];
export interface PickGroup {
  group: string;
  items: string[];
}
export type Picks = Record<string, PickGroup[]>;

interface Sources {
  datasets: readonly DatasetInfo[];
  models: readonly Schemas['ModelInfo'][];
  jobs: readonly JobSummary[];
  catalog: { presets: readonly { name: string }[] } | undefined;
}

const groups = (...all: PickGroup[]): PickGroup[] => all.filter(({ items }) => items.length > 0);

export function makePicks({ datasets, models, jobs, catalog }: Sources): Picks {
  const named = [...new Set(models.flatMap((model) => model.aliases.map((alias) => `model:${model.name}@${alias}`)))];
  // A job that still runs can be a teacher too: the new one waits for it.
  const trained = jobs
    .filter((job) => job.kind === 'distill' && !['failed', 'cancelled'].includes(job.state))
    .map((job) => `job:${job.name}`);
  const weights = groups({ group: 'Models', items: named }, { group: 'Jobs', items: trained });
  const presets = (catalog?.presets ?? []).map(({ name }) => name);
  return {
    dataset: groups(
      { group: 'Registered', items: datasets.filter(({ state }) => state !== 'failed').map(({ name }) => `dataset:${name}`) },
      { group: 'Built in', items: ['scenes'] },
    ),
    teacher: weights,
    weights,
    backbone_weights: weights,
    student: groups({ group: 'Presets', items: presets }, ...weights),
    arch: groups({ group: 'Presets', items: presets }),
  };
}

export const PLACEHOLDERS: Record<string, string> = {
  dataset: 'scenes, dataset:name, or a folder',
  teacher: 'none: the student is trained alone',
  student: 'a preset, or model:name@alias',
  arch: 'a preset',
  weights: 'job:name, model:name@alias, torchvision:ENUM, or a file',
  backbone_weights: 'torchvision:ENUM, timm:NAME.TAG, or a file',
};
