import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { controlRun } from '@/api/control';
import { jobQuery, jobsQuery, metricsQuery } from '@/api/jobs';
import { Chart, type ChartLine } from '@/components/chart';
import type { Mark } from '@/components/chart-marks';
import { alpha, ALONE, runColor, termColor } from '@/lib/colors';
import { compact, count, duration, points } from '@/lib/format';
import { primaryMetric } from '@/lib/metric';
import { align, movingAverage, nonFinite, stack, type Line } from '@/lib/series';
import { METRIC_NAMES } from './metric-names';
import { nextEvaluation, studentEvaluations, teacherEvaluation } from './model';
import { useRun } from './run-context';
import { useEvery, useLength } from './use-every';

const WINDOW = 20;

export function useAttemptMarks(): { marks: Mark[]; range: [number, number] } {
  const { job, ref } = useRun();
  const answer = useQuery(metricsQuery(ref, METRIC_NAMES)).data;
  const marks = useMemo(
    () =>
      (answer?.attempts ?? [])
        .filter((item) => Number(item.number) > 1 && Number(item.iteration) > 0)
        .map((item) => ({ x: Number(item.iteration), label: `attempt ${String(item.number)}` }))
        // Two attempts from one checkpoint are one line: the later one went on.
        .filter((mark, index, all) => all.findLastIndex((other) => other.x === mark.x) === index),
    [answer?.attempts],
  );
  const length = useLength(ref);
  return { marks, range: [0, Math.max(1, job.progress.iterations || length || job.progress.iteration || 100)] };
}

/** The evaluations of the student alone, and what its line is called. */
function useControl() {
  const { job } = useRun();
  const jobs = useQuery(jobsQuery()).data?.items;
  const found = useMemo(() => controlRun(job, jobs ?? []), [job, jobs]);
  const detail = useQuery({ ...jobQuery(found?.name ?? ''), enabled: found !== undefined, refetchInterval: false }).data;
  return useMemo(() => {
    if (!found || !detail) return null;
    const seed = found.seed === job.seed ? '' : `, seed ${found.seed ?? '–'}`;
    return { label: `alone (${found.name}${seed})`, evaluations: studentEvaluations(detail) };
  }, [found, detail, job.seed]);
}

/** Evaluation metrics, never smoothed: the student's line, the teacher dashed in ink, the student alone grey. */
export function ScoreChart({ height }: { height: number }) {
  const { job, ref, evaluations } = useRun();
  const { marks, range } = useAttemptMarks();
  const every = useEvery(ref);
  const { key, label } = primaryMetric(job.task);
  const teacher = teacherEvaluation(job)?.metrics[key] ?? job.metrics[`teacher/${key}`];
  const control = useControl();
  const series = useQuery(metricsQuery(ref, METRIC_NAMES)).data?.series.find((line) => line.name === `val/${key}`);
  const { x, ys, lines } = useMemo(() => {
    const alone = (control?.evaluations ?? []).filter((item) => item.iteration <= range[1]);
    // The series reaches back to the start of a run of any length; the evaluations are there a moment sooner.
    const scores = new Map((series?.x ?? []).map((at, index) => [at, series?.y[index] ?? null]));
    for (const item of evaluations) scores.set(item.iteration, item.metrics[key] ?? null);
    const x = [...new Set([0, ...scores.keys(), ...alone.map((item) => item.iteration), range[1]])].sort((a, b) => a - b);
    const lines: ChartLine[] = [
      { label: 'student', color: job.methods.length ? runColor(job.methods) : ALONE, width: 2, points: true },
    ];
    const ys: (number | null | undefined)[][] = [x.map((value) => scores.get(value))];
    if (teacher !== undefined) {
      lines.push({ label: `teacher${job.teacher ? ` (${job.teacher})` : ''}`, color: '--ink', dash: [6, 4], width: 1.2 });
      ys.push(x.map(() => teacher));
    }
    if (control && alone.length) {
      const controls = new Map(alone.map((item) => [item.iteration, item.metrics[key] ?? null]));
      lines.push({ label: control.label, color: ALONE, width: 1.2, points: true });
      ys.push(x.map((value) => controls.get(value)));
    }
    return { x, ys, lines };
  }, [evaluations, series, range[1], teacher, control, key, job.methods, job.teacher]); // eslint-disable-line react-hooks/exhaustive-deps
  const next = nextEvaluation(every, job);
  const waits = ['running', 'queued', 'waiting', 'paused'].includes(job.state);
  return (
    <Chart
      title={`${label}, val`}
      fit
      note="not smoothed"
      {...{ x, ys, lines, height, range, marks }}
      format={points}
      yRange={evaluations.length ? undefined : [0, 100]}
      empty={
        evaluations.length || !waits
          ? undefined
          : next
            ? `first evaluation at ${count(next.at)}${next.seconds === null ? '' : `, in ${duration(next.seconds)}`}`
            : 'no evaluation yet'
      }
    />
  );
}

/** Loss terms stacked; the raw total stays behind them, faint, with its envelope. */
export function LossChart({ height }: { height: number }) {
  const { job, ref, search } = useRun();
  const { marks, range } = useAttemptMarks();
  const answer = useQuery(metricsQuery(ref, METRIC_NAMES)).data;
  const raw = search.s === 'raw';
  const drawn = useMemo(() => lossLines(answer?.series ?? [], job.methods, raw), [answer, job.methods, raw]);
  return (
    <Chart
      title="Loss terms, stacked"
      note={raw ? 'raw (s)' : `average of ${WINDOW} (s)`}
      {...drawn}
      {...{ height, range, marks }}
      format={compact}
      empty={drawn.x.length ? undefined : answer ? 'no step yet' : ' '}
    />
  );
}

function lossLines(series: Line[], methods: string[], raw: boolean) {
  const total = series.find((line) => line.name === 'loss/total');
  // The supervised loss first: it is the ground on which the KD terms stand.
  const terms = series
    // `loss/task/box` is a part of `loss/task`: stacked beside it, it would count twice.
    .filter((line) => line.name.startsWith('loss/') && line.name !== 'loss/total' && !line.name.startsWith('loss/task/'))
    .sort((a, b) => rank(a.name) - rank(b.name) || a.name.localeCompare(b.name));
  const { x, ys: columns } = align([...terms, ...(total ? [total, envelope(total, 'low'), envelope(total, 'high')] : [])]);
  const values = columns.slice(0, terms.length);
  const shown = raw ? values : values.map((column) => movingAverage(column.map((value) => value ?? null), WINDOW));
  const stacked = stack(shown);
  const supervised = terms.filter((line) => rank(line.name) < 2).length;
  const lines: ChartLine[] = terms.map((line, index) => {
    const name = line.name.slice('loss/'.length);
    // One method needs no prefix: the legend stays on one line, and the chart where it is.
    const label = methods.length === 1 && name.startsWith(`${methods[0]}/`) ? name.slice(methods[0]!.length + 1) : name;
    return { label, color: termColor(name, methods, index - supervised), width: 1 };
  });
  const ys: (number | null | undefined)[][] = [...stacked];
  const base = terms.length;
  const bands = lines.map((line, index) => ({
    series: [index + 1, index] as [number, number],
    fill: alpha(line.color, 0.28),
  }));
  // The bottom area has no lower neighbour: it is filled down to zero instead.
  if (lines[0]) lines[0].fill = bands[0]!.fill;
  bands.shift();
  if (total) {
    lines.push({ label: 'total', color: alpha('#808790', 0.7), width: 1, quiet: true });
    lines.push({ label: 'total min', color: 'transparent', width: 0, quiet: true });
    lines.push({ label: 'total max', color: 'transparent', width: 0, quiet: true });
    ys.push(...columns.slice(base));
    bands.push({ series: [base + 3, base + 2], fill: alpha('#808790', 0.22) });
  }
  return { x, ys, lines, bands, legendYs: shown, broken: [...new Set(terms.flatMap(nonFinite))] };
}

const rank = (name: string): number => (name === 'loss/task' ? 0 : name === 'loss/aux' ? 1 : name.endsWith('diversity') ? 3 : 2);

const envelope = (line: Line, side: 'low' | 'high') => ({ x: line.x, y: line[side] ?? line.y });
