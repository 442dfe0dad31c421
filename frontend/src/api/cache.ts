/** What an event does to the query cache: patch what it carries, refetch what it only announces. */
import type { QueryClient, QueryKey } from '@tanstack/react-query';
import { primaryMetric } from '@/lib/metric';
import { isDrawnOnce, withPlace } from '@/lib/panels';
import { appendLog, joinSeries, type LogState } from '@/lib/series';
import { keys } from './keys';
import { logsAfter, metricsAfter } from './jobs';
import type {
  EvaluationPayload, JobDetail, JobSummary, MetricsAnswer, PanelIndex, PanelInfo, ProgressInfo, StreamEvent,
} from './types';

/** At most one fetch of a kind in this time: a fast run sends many events a second. What comes first is fetched
 * almost at once (an event names several parts, and often a second event follows it); the rest waits its turn. */
const PACE_MS = 500;
const FIRST_MS = 50;

export function jobEvent(queries: QueryClient) {
  const timers = new Map<string, ReturnType<typeof setTimeout>>();
  const done = new Map<string, number>();

  const soon = (name: string, action: () => void) => {
    if (timers.has(name)) return;
    timers.set(
      name,
      setTimeout(() => {
        timers.delete(name);
        done.set(name, Date.now());
        action();
      }, Math.max(FIRST_MS, (done.get(name) ?? 0) + PACE_MS - Date.now())),
    );
  };
  const refetch = (key: QueryKey) => soon(key.join('/'), () => void queries.invalidateQueries({ queryKey: key }));

  /** A job is cached under its id or its name, whichever the page's address holds. */
  const each = (event: StreamEvent, action: (job: string) => void) => {
    for (const job of new Set([event.job, event.name])) {
      if (queries.getQueryCache().find({ queryKey: keys.jobs.of(job), exact: false })) action(job);
    }
  };

  const patch = (event: StreamEvent, change: <T extends JobSummary>(job: T) => T) => {
    queries.setQueryData(keys.jobs.list(), (page: { items: JobSummary[] } | undefined) =>
      page && { ...page, items: page.items.map((job) => (job.id === event.job ? change(job) : job)) },
    );
    each(event, (job) =>
      queries.setQueryData(keys.jobs.detail(job), (detail: JobDetail | undefined) => detail && change(detail)),
    );
  };

  const take = (event: StreamEvent) => {
    switch (event.kind) {
      case 'progress':
        patch(event, (job) => ({
          ...job,
          progress: { ...job.progress, ...(event.data as Partial<ProgressInfo>) },
        }));
        break;
      case 'metrics':
        each(event, (job) => soon(`tail/${job}`, () => void extendMetrics(queries, job)));
        break;
      case 'evaluation':
        takeEvaluation(event);
        break;
      case 'log':
        each(event, (job) => soon(`log/${job}`, () => void extendLog(queries, job)));
        break;
      case 'panel':
        each(event, (job) => takePanel(job, event.data as unknown as PanelInfo));
        break;
      default:
        // state, attempt, alarm, checkpoint, export, result, stage: rare, and they change many parts at once.
        refetch(keys.jobs.list());
        refetch(keys.compares);
        each(event, (job) => {
          refetch(keys.jobs.detail(job));
          refetch(keys.jobs.attempts(job));
          refetch(keys.jobs.artifacts(job));
          if (event.kind === 'resolved') refetch(keys.jobs.spec(job));
          if (event.kind === 'attempt' || event.kind === 'rewound') refetch(keys.jobs.metrics(job));
        });
    }
  };

  /** The place at once, so that the scrubber knows it; the pictures of that evaluation as they come. */
  const takePanel = (job: string, panel: PanelInfo) => {
    queries.setQueryData(keys.jobs.panelIndex(job), (index: PanelIndex | undefined) => index && withPlace(index, panel));
    if (isDrawnOnce(panel.kind)) refetch(keys.jobs.panelIndex(job));
    refetch(keys.jobs.panels(job, panel.iteration));
  };

  const takeEvaluation = (event: StreamEvent) => {
    const found = event.data as Partial<EvaluationPayload>;
    refetch(keys.compares);
    each(event, (job) => {
      refetch(keys.jobs.detail(job));
      soon(`tail/${job}`, () => void extendMetrics(queries, job));
    });
    if (found.role === 'student' && found.metrics !== undefined && found.split === 'val') {
      const scores = found.metrics;
      patch(event, (job) => {
        const { key } = primaryMetric(job.task);
        const score = scores[key];
        if (score === undefined) return job;
        const best = Math.max(score, job.metrics[`best/${key}`] ?? 0);
        return { ...job, metrics: { ...job.metrics, [`val/${key}`]: score, [`best/${key}`]: best } };
      });
    } else {
      refetch(keys.jobs.list());
    }
  };

  return { take, stop: () => timers.forEach((timer) => clearTimeout(timer)) };
}

/** Fetches only the points after what is there, for every metric query of the job that runs over iterations. */
async function extendMetrics(queries: QueryClient, job: string): Promise<void> {
  const cached = queries.getQueriesData<MetricsAnswer>({ queryKey: keys.jobs.metrics(job) });
  for (const [key, old] of cached) {
    if (!old) continue;
    if (old.x !== 'iteration') {
      await queries.invalidateQueries({ queryKey: key });
      continue;
    }
    const names = key.at(-2) as string;
    const after = Math.max(0, ...old.series.map((series) => series.x.at(-1) ?? 0));
    // One evaluation interval of overlap is cheap, and covers metrics that are written at different paces.
    const tail = await metricsAfter(job, names, after).catch(() => null);
    if (tail) queries.setQueryData(key, (now: MetricsAnswer | undefined) => now && joinSeries(now, tail));
  }
}

async function extendLog(queries: QueryClient, job: string): Promise<void> {
  const old = queries.getQueryData<LogState>(keys.jobs.logs(job));
  if (!old) return;
  const more = await logsAfter(job, old.next).catch(() => null);
  if (more) queries.setQueryData(keys.jobs.logs(job), (now: LogState | undefined) => now && appendLog(now, more));
}
