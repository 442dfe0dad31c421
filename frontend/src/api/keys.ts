/** Query keys, made in one place: what an event refetches is found by the same functions that fetched it. */
import type { XAxis } from '@/lib/url';

export const keys = {
  jobs: {
    all: ['jobs'] as const,
    list: () => [...keys.jobs.all, 'list'] as const,
    of: (job: string) => [...keys.jobs.all, 'one', job] as const,
    detail: (job: string) => [...keys.jobs.of(job), 'detail'] as const,
    metrics: (job: string) => [...keys.jobs.of(job), 'metrics'] as const,
    metricsOf: (job: string, names: string, x: XAxis) => [...keys.jobs.metrics(job), names, x] as const,
    logs: (job: string) => [...keys.jobs.of(job), 'logs'] as const,
    panelIndex: (job: string) => [...keys.jobs.of(job), 'panel-index'] as const,
    panels: (job: string, iteration: number) => [...keys.jobs.of(job), 'panels', iteration] as const,
    spec: (job: string) => [...keys.jobs.of(job), 'spec'] as const,
    artifacts: (job: string) => [...keys.jobs.of(job), 'artifacts'] as const,
    attempts: (job: string) => [...keys.jobs.of(job), 'attempts'] as const,
  },
  compares: ['compare'] as const,
  compare: (jobs: readonly string[], x: XAxis) => [...keys.compares, jobs.join(','), x] as const,
  datasets: { all: ['datasets'] as const, of: (id: string) => ['datasets', id] as const },
  models: { all: ['models'] as const, of: (id: string) => ['models', id] as const },
  workers: { all: ['workers'] as const },
  catalog: ['catalog'] as const,
  schema: ['schema'] as const,
  recipes: ['recipes'] as const,
  picture: (artifact: string) => ['picture', artifact] as const,
};
